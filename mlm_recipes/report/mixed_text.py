"""Says what is mixed into training, and how often it is repeated; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from ..metrics_file import CorpusFacts, MixedText
from .wording import count

#: From so many readings on, another one teaches next to nothing: half of what repeating is worth is gone after some 15
#: (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", arXiv:2305.16264; for decoders).
_OFTEN = 16


def will_be_mixed(facts: CorpusFacts, epochs: float) -> Iterator[str]:
    """Yield sentences about each text that is mixed in, for a run of so many `epochs`.

    >>> text = {"name": "notes", "asked_share": 0.1, "share": 0.1002, "paragraphs": 30, "left_out": 2, "rows": 30}
    >>> for sentence in will_be_mixed({"mixed": [text | {"rows_per_epoch": 90}]}, epochs=2):
    ...     print(sentence)
    Mixed in: notes, 10.0% of the training tokens: 30 paragraphs, each about 6 times.
    2 paragraphs of notes are not mixed in, since they are measured.
    """
    for text in facts.get("mixed", []):
        times = epochs * text["rows_per_epoch"] / text["rows"]
        often = f"each about {times:.0f} times" if times >= 1.5 else f"{min(1.0, times):.0%} of them read"
        yield f"Mixed in: {text['name']}, {_share(text)} of the training tokens: {_paragraphs(text)}, {often}."
        if text["left_out"]:
            are = "is" if text["left_out"] == 1 else "are"
            reason = "since it is measured" if text["left_out"] == 1 else "since they are measured"
            yield f"{count(text['left_out'], 'paragraph')} of {text['name']} {are} not mixed in, {reason}."
        if times > _OFTEN:
            yield (
                f"That is often for a text of {_paragraphs(text)}: a longer one, named with --general_corpus or "
                "--mix, says more about the language."
            )


def _paragraphs(text: MixedText) -> str:
    return count(text["paragraphs"], "paragraph")


def _share(text: MixedText) -> str:
    share = f"{text['share']:.1%}"
    if abs(text["share"] - text["asked_share"]) <= 0.05 * text["asked_share"]:
        return share
    return f"{share} (not {text['asked_share']:.1%}, since an epoch has whole rows)"
