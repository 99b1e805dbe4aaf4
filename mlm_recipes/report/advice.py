"""Turns an inspection's figures into advice: what to train with, and what to check first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..inspection_file import Advised, LineShapes, MeasuredFacts
from . import wording
from .unknown_words import unknown_text

#: Random weights need this many words to learn more than word frequencies; `mini` was trained on ten million.
_MANY_WORDS = 10_000_000
_FEW_WORDS = 1_000_000

#: With this many pieces per word, a vocabulary does not fit the text: bert-base-uncased has 1.1 to 1.3 on English.
_FRAGMENTED = 1.6

#: The most examples that the quickstart trains on: 130 steps of 32.
_QUICKSTART = 130 * 32


def advised_length(lengths: npt.NDArray[np.int64], limit: int, keep: float = 0.99) -> int:
    """Return the smallest of 64, 128, 256, ... that covers a share `keep` of all tokens; at most `limit`.

    `lengths` is the number of tokens in each paragraph, shape `(paragraphs,)`.

    >>> advised_length(np.array([10, 20, 70]), limit=512), advised_length(np.array([10, 900]), limit=512)
    (128, 512)
    """
    length = 64
    while length < limit and np.minimum(lengths, length).sum() < keep * lengths.sum():
        length *= 2
    return min(length, limit)


def advised_batch(rows: int, usual: int) -> int:
    """Return a recipe's usual batch size, halved (to no less than 4) while an epoch of `rows` has fewer than ten steps.

    >>> advised_batch(486, 32), advised_batch(100, 32), advised_batch(3, 32)
    (32, 8, 4)
    """
    while usual > 4 and rows < 10 * usual:
        usual = max(4, usual // 2)
    return usual


def advised_recipe(facts: MeasuredFacts, built_in: bool, kmers: bool = False) -> Advised:
    """Return the `recipe` and `model` to use, any other value that it needs, and `why`.

    Args:
        facts: an inspection's; corpus, model, recipe, words, unknown and rows are read.
        built_in: whether the model comes with the library.
        kmers: whether its vocabulary has k-mers instead of words.
    """
    model, words, rows = facts["model"]["name"], facts["corpus"]["words"], facts["rows"]["train"]
    amount = wording.count(words, "word")
    if facts["model"]["random_weights"]:
        if kmers:
            return {"recipe": "pretrain", "model": model, "why": "from random weights: no built-in model reads k-mers"}
        if words < _FEW_WORDS:
            return {
                "recipe": "quickstart",
                "model": "mini",
                "why": f"from {amount} random weights learn little more than how often each word occurs; "
                "adapt a model that knows the language (mini knows English)",
            }
        return {"recipe": "pretrain", "model": model, "why": f"{amount}, from random weights"}
    pieces, unknown = facts["words"]["pieces_per_word"]["ratio"], facts["unknown"]["ratio"]
    if words >= _MANY_WORDS and (pieces >= _FRAGMENTED or unknown >= 0.02):
        return {
            "recipe": "pretrain",
            "model": "mini-random" if built_in else model,
            "why": f"{amount} are enough for a new vocabulary and a new model, and this vocabulary splits a word into "
            f"{pieces:.2f} pieces on average; compare it with the adapt recipe",
        }
    if not built_in:
        return {"recipe": "adapt", "model": model, "why": "continue training: the model knows its language"}
    if rows > _QUICKSTART:
        return {
            "recipe": "quickstart",
            "model": model,
            "num_train_epochs": 1,
            "why": f"its 130 steps would cover at most {_QUICKSTART / rows:.0%} of the text; an epoch covers all of it",
        }
    return {"recipe": "quickstart", "model": model, "why": "continue training the built-in model on your text"}


def looks_wrapped(lines: LineShapes) -> bool:
    """Tell whether the paragraphs look like the lines of a text that was wrapped at a fixed width.

    That is: at least half are nearly as long as the longest usual one, which has 40 to 120 characters, and at least
    three in ten begin with a lower-case letter.

    >>> full, small = {"ratio": 0.8}, {"ratio": 0.7}
    >>> looks_wrapped({"usual_longest": 72, "nearly_as_long": full, "begin_with_a_small_letter": small})
    True
    """
    width = 40 <= lines["usual_longest"] <= 120
    full = lines["nearly_as_long"]["ratio"] >= 0.5
    return bool(width and full and lines["begin_with_a_small_letter"]["ratio"] >= 0.3)


def warnings(facts: MeasuredFacts) -> list[str]:
    """Return what the user should know before training, as sentences, the most serious first."""
    masking, model = facts["masking"], facts["model"]
    found: list[str] = []
    short, rows = masking["rows_below_three_maskable"]["sum"], facts["rows"]["train"]
    if short == rows:
        found.append(
            "Every row is shorter than three tokens: there is no context to predict a masked token from. Join the "
            "lines that belong together, or pass --packing."
        )
    elif short > 0.1 * rows:
        found.append(
            f"{short:,} of {wording.count(rows, 'row')} have fewer than three tokens that can be masked: the model "
            "learns almost nothing from them. Join the lines that belong together, or pass --packing."
        )
    if model["missing_weights"]:
        names = ", ".join(model["missing_weights"][:2])
        what = (
            "parts of the model itself are not in the checkpoint"
            if model["missing_in_encoder"]
            else "the checkpoint has no trained masked-language-modelling head"
        )
        found.append(
            f"{model['name']}: {what}. {wording.count(len(model['missing_weights']), 'weight')} start from random "
            f"values ({names}, ...), so the figures before training are no better than guessing, and the gain looks "
            "large. Use the masked-language model that it was made from, if there is one, or train longer."
        )
    masked = masking["held_out_masked_tokens"]
    if masked is not None and 0 < masked < wording.FEW:
        found.append(
            f"Only {wording.count(masked, 'held-out token')} will be masked and measured; a meaningful interval needs "
            f"at least {wording.FEW}. Provide more text, raise --validation_fraction, or pass a --validation_corpus."
        )
    if looks_wrapped(facts["lines"]):
        found.append(
            f"The paragraphs look like wrapped lines of up to {facts['lines']['usual_longest']} characters: each line "
            "would be an example of its own. If blank lines separate the paragraphs, pass --sample_by paragraph; "
            "otherwise join the lines first."
        )
    cut = facts["cut_off"]["tokens"]
    if cut["sum"] > 0.01 * cut["count"]:
        length, limit = facts["recipe"]["max_length"], model["max_positions"]
        up_to = "any length" if limit is None else f"up to {limit:,}"
        longer = f"Raise --max_length (this model takes {up_to}), or p" if limit is None or length < limit else "P"
        found.append(
            f"{cut['ratio']:.1%} of the tokens are cut off at {length:,}. {longer}ass --long_text split, which loses "
            "nothing."
        )
    unknown = facts["unknown"]
    said = unknown_text({"tokens": int(unknown["count"]), "unknown_tokens": int(unknown["sum"]), **facts["lost"]})
    if said:
        found.append(said)
    pieces = facts["words"]["pieces_per_word"]["ratio"]
    if pieces >= _FRAGMENTED:
        found.append(
            f"The vocabulary splits a word into {pieces:.2f} pieces on average: it was made for another kind of text. "
            "A model for your field or language will do better."
        )
    duplicates, paragraphs = facts["duplicates"]["exact"], facts["corpus"]["paragraphs"]
    if duplicates > 0.05 * paragraphs:
        found.append(
            f"{duplicates:,} of {wording.count(paragraphs, 'paragraph')} are duplicates: the model will see these "
            "more often in each epoch. Remove them, unless they are intended."
        )
    return found
