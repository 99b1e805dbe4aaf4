"""Compares a model with word frequencies: a model with a higher loss has learned less than how often words occur."""

from __future__ import annotations

from ..metrics_file import CorpusFacts, Metrics

#: Losses are shown with two decimals; a smaller difference cannot be seen.
_VISIBLE = 0.005


def worse_by(loss: float, corpus: CorpusFacts) -> float:
    """Return by how many nats a model's loss is above that of word frequencies alone; 0 if it is not."""
    above = loss - corpus["word_frequencies"]["loss"]
    return above if above >= _VISIBLE else 0.0


def still_worse(metrics: Metrics) -> str:
    """Return that a trained model is worse than word frequencies, if it is, and what to do; otherwise nothing."""
    corpus, before, after = metrics["corpus"], metrics["before"]["loss"], metrics["after"]["loss"]
    worse = worse_by(after, corpus)
    if not worse:
        return ""
    figures = f"its loss is {after:.2f} nats, {worse:.2f} above theirs ({corpus['word_frequencies']['loss']:.2f})"
    steps = metrics["train"]["steps"]
    if worse_by(before, corpus):
        done = f"After {steps:,} step{'' if steps == 1 else 's'}"
        help = "Train for more steps"
        if metrics["train"].get("head_initialised"):
            help += ", or start from a model that has a trained head"
        return f" {done}, the model is still worse than word frequencies alone: {figures}. {help}."
    return f" Training has made the model worse than word frequencies alone: {figures}. Lower --learning_rate."


def knew_nothing(metrics: Metrics) -> bool:
    """Tell whether the model was no better than word frequencies on ordinary language before training.

    Then nothing could be forgotten, and the loss before is no measure: the head is new, or the model is untrained. The
    measure decides, not the names of missing weights, since a checkpoint may also hold weights that were never trained.
    Runs of earlier versions do not have the frequencies of the general text.
    """
    if "general" not in metrics["before"]:
        return False
    before, corpus = metrics["before"]["general"]["loss"], metrics["corpus"]
    frequencies = corpus.get("general_word_frequencies")
    if frequencies is not None:
        return before >= frequencies["loss"]
    return bool(metrics["train"].get("head_initialised")) or before >= corpus["word_frequencies"]["loss"]
