"""`vocab` proposes words that should become tokens, and writes them into a file for `add_tokens`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.added_words import add_words
from ..data.tokenizer import load_or_train_tokenizer
from ..data.word_cache import TokenIds
from ..data.word_candidates import Candidate, candidates
from ..model.loading import starts_random
from ..report import terminal
from ..sources.escaping import one_line, shell
from ..training.config import MLMConfig
from . import run_folder
from .arguments import as_flags, read_config
from .prepare import load_text

#: The words that the table shows; the file has all of them.
SHOWN = 30


@dataclass(frozen=True)
class Proposal:
    """The proposed words, and how many tokens the text has without and with them; `print()` shows a table.

    Attributes:
        words: the words, those that save most tokens first.
        tokens: the tokens of the training text, and of the held-out text, without special tokens.
        with_words: the same with the words as tokens, counted and not estimated.
        path: the file that was written.
        given: the words of a command line that name the text, the model and all else that was given.
    """

    words: list[Candidate]
    tokens: tuple[int, int]
    with_words: tuple[int, int]
    path: Path
    given: list[str]

    def __str__(self) -> str:
        total = self.tokens[0]
        rows = [
            (each.word, " ".join(each.pieces), f"{each.frequency:,}", f"{each.saved:,}", f"{each.saved / total:.2%}")
            for each in self.words[:SHOWN]
        ]
        header = ("word", "pieces", "frequency", "tokens saved", "of all tokens")
        parts = [terminal.table([header, *[tuple(map(one_line, row)) for row in rows]], right=range(2, 5))]
        if len(self.words) > SHOWN:
            parts.append(f"... and {len(self.words) - SHOWN:,} more in the file.")
        for name, before, after in zip(("training", "held-out"), self.tokens, self.with_words, strict=True):
            share = (before - after) / max(1, before)
            parts.append(f"The {name} text has {before:,} tokens, and {after:,} with these words ({share:.1%} fewer).")
        path = str(self.path)
        command = shell("mlm-recipes", "train", *self.given, "--add_tokens", path)
        parts.append(f"Edit {one_line(path)} as you like; then:  {command}")
        return "\n".join(parts)


def propose_vocabulary(
    recipe: str | Path | MLMConfig | None = None,
    *,
    add: int = 500,
    at_least: int = 3,
    output: str | Path | None = None,
    **overrides: Any,
) -> Proposal:
    """Propose the words of a text's training split that would save most tokens as one token each.

    Args:
        recipe, overrides: as for `train`; `corpus`, `model` and what decides the held-out text are used.
        add: the most words.
        at_least: the fewest paragraphs that a word is in.
        output: the file to write, by default `runs/<corpus>-words.txt`; it must end in .txt.

    Raises: FileExistsError if the file exists, since a person may have edited it; ValueError for random weights, which
    learn their whole vocabulary from the text, for a stream, for a tokenizer without words, and if no word breaks into
    pieces.
    """
    for name, number in (("add", add), ("at_least", at_least)):
        if number < 1:
            raise ValueError(f"{name}: received {number}. Accepted: 1 or more. Try --add 500 --at_least 3.")
    config = read_config(recipe if recipe is not None else "quickstart", overrides)
    if config.streaming:
        raise ValueError(
            "streaming: received true. Accepted here: false, since all words of the text are counted. Name a part of "
            "the text as the corpus."
        )
    if starts_random(config.model, config.from_scratch) and config.tokenizer is None:
        raise ValueError(
            f"model: {config.model!r} starts from random weights, and learns its whole vocabulary from the text. "
            "Accepted: a trained model. Choose the size with --vocab_size when you train it."
        )
    corpus = load_text(config)
    path = Path("runs") / f"{run_folder.file_stem(corpus.facts['name'])}-words.txt" if output is None else Path(output)
    _refuse_to_replace(path)
    tokenizer = load_or_train_tokenizer(config.model, None, **config.vocabulary())
    add_words(tokenizer, ["a"])  # refuses a tokenizer without words
    texts = {name: list(corpus[name]["text"]) for name in ("train", "validation")}
    found = candidates(texts["train"], tokenizer, at_least)[:add]
    if not found:
        raise ValueError(
            f"vocab: no word that is in {at_least} paragraphs or more breaks into pieces. Accepted: a text with words "
            f"that the vocabulary of {config.model!r} lacks. This one needs none, or lower --at_least."
        )
    extended = add_words(tokenizer, [each.word for each in found]).tokenizer
    before, after = _count(tokenizer, texts), _count(extended, texts)
    _write(path, found, config, before[0])
    named = {"corpus": config.corpus, "model": config.model}
    given = [*([] if recipe is None else [str(recipe)]), *as_flags(named | {**overrides, "add_tokens": None})]
    return Proposal(found, before, after, path, given)


def _count(tokenizer: Any, texts: dict[str, list[str]]) -> tuple[int, int]:
    ids = TokenIds(tokenizer)
    train, validation = (sum(map(len, ids(each))) for each in texts.values())
    return train, validation


def _refuse_to_replace(path: Path) -> None:
    if path.suffix != ".txt":
        raise ValueError(f"output: received {str(path)!r}. Accepted: a name that ends in .txt, as add_tokens expects.")
    if path.exists():
        raise FileExistsError(
            f"output: {str(path)!r} already exists, and may have been edited. Accepted: a new file. Name another with "
            "--output, or remove it."
        )


def _write(path: Path, found: list[Candidate], config: MLMConfig, total: int) -> None:
    lines = [
        f"# Words of {one_line(config.corpus)} that the vocabulary of {one_line(config.model)} breaks into pieces,",
        "# those that cost most tokens first. One word per line; remove and add as you like.",
        "# word  # its frequency in the training text, its pieces, the share of all tokens that it saves",
    ]
    lines += [f"{each.word}  # {each.frequency}, {' '.join(each.pieces)}, {each.saved / total:.3%}" for each in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
