"""The result of fine-tuning two encoders, in sentences and a table; imports no torch."""

from __future__ import annotations

from math import sqrt

from ..finetune_file import Finetuned
from .terminal import table, wrapped
from .wording import count


def summary(found: Finetuned) -> str:
    """Return a sentence and a table: each seed's accuracy with both encoders, and the means."""
    rows: list[tuple[str, ...]] = [("seed", "before", "after", "change", "95% interval")]
    for seed in found["seeds"]:
        change = seed["accuracy_after"] - seed["accuracy_before"]
        rows.append((str(seed["seed"]), *_shares(seed["accuracy_before"], seed["accuracy_after"], change), ""))
    for name, measure in (("accuracy, mean", found["accuracy"]), ("macro-F1, mean", found["macro_f1"])):
        interval = f"{100 * measure['low']:+.1f} to {100 * measure['high']:+.1f}"
        rows.append((name, *_shares(measure["before"], measure["after"], measure["change"]), interval))
    return f"{wrapped(sentence(found))}\n\n{table(rows, right=range(1, 5))}"


def sentence(found: Finetuned) -> str:
    """Return what fine-tuning showed, and what keeps it from showing anything.

    >>> measure = dict(before=0.712, after=0.758, change=0.046, low=0.029, high=0.062, verdict="better")
    >>> texts = dict(name="reviews", measured=500, labels={"no": 250, "yes": 250})
    >>> settings = dict(steps=300)
    >>> same = dict(on=texts, against="mini", as_before=True, settings=settings, seeds=[{}] * 5, accuracy=measure)
    >>> print(sentence(same))
    Fine-tuned on reviews, the model classifies 75.8% of 500 held-out texts correctly after this training, and 71.2% \
before it (mini): +2.9 to +6.2 points (95% interval over 5 seeds and the texts; 300 steps each).
    """
    measure, on = found["accuracy"], found["on"]
    low, high = 100 * measure["low"], 100 * measure["high"]
    before, after = f"{measure['before']:.1%}", f"{measure['after']:.1%}"
    interval = f"{low:+.1f} to {high:+.1f} points (95% interval over {len(found['seeds'])} seeds and the texts; "
    interval += f"{count(found['settings']['steps'], 'step')} each)"
    other = f"before it ({found['against']})" if found["as_before"] else f"with {found['against']}"
    compared = f"{after} of {on['measured']:,} held-out texts correctly after this training, and {before} {other}"
    if measure["verdict"] == "no measurable change":
        said = f"No measurable change: fine-tuned on {on['name']}, the model classifies {compared}: {interval}."
    else:
        said = f"Fine-tuned on {on['name']}, the model classifies {compared}: {interval}."
    return said + _no_better_than_majority(found)


def _no_better_than_majority(found: Finetuned) -> str:
    labels, texts = found["on"]["labels"], found["on"]["measured"]
    label = max(labels, key=lambda name: labels[name])
    share = labels[label] / texts
    best = max(found["accuracy"]["before"], found["accuracy"]["after"])
    if best > share + 1.96 * sqrt(best * (1 - best) / texts):
        return ""
    return (
        f" Neither is measurably better than always answering {label!r} ({share:.1%}): try more --max_steps, another "
        "--learning_rate, or more labelled texts."
    )


def _shares(*values: float) -> tuple[str, ...]:
    before, after, change = values
    return f"{before:.1%}", f"{after:.1%}", f"{100 * change:+.1f}"
