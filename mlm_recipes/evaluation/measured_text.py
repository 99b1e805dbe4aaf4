"""Measures a model on a text: with several draws of masks, and with tokens that are masked one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from datasets import Dataset

from ..data.columns import column, flat_column, list_lengths
from ..data.windows import paragraph_of
from ..masking.collator import EVALUATION_SHARE
from ..masking.random_keys import Floats, Ints
from ..metrics_file import Gain, Sample, TextChange, TextScores, Unit
from .paired_bootstrap import MASKED, interval_of_gain, measures, paired_changes
from .pseudo_perplexity import MaskedAlone, mask_alone
from .token_results import TokenResults

#: The most masked tokens in all draws together: with more, a further draw adds little information.
MASKED_TOKENS = 10_000

#: Evaluates rows with draw k of the frozen masks.
Evaluate = Callable[[Any, int], TokenResults]


@dataclass(frozen=True)
class MeasuredText:
    """A text that is measured in the same way each time, so that measurements can be compared token by token.

    Attributes:
        name: the text's name in reports.
        rows: its rows of token ids.
        paragraph: the index of each row's paragraph, from 0, shape `(rows,)`.
        unit: what the paragraphs are: `paragraphs`, or `rows` if the text was packed.
        draws: the number of mask draws.
        alone: the tokens that are masked one at a time.
        repeated: the number of rows that were left out because they equal an earlier one, token by token.
    """

    name: str
    rows: Dataset
    paragraph: Ints
    unit: Unit
    draws: int
    alone: MaskedAlone
    repeated: int = 0

    @classmethod
    def of(
        cls, name: str, rows: Dataset, special_ids: Ints, seed: int, *, draws: int, budget: int, unit: Unit
    ) -> MeasuredText:
        """Decide how a text is measured.

        `draws` is the most mask draws; for `budget`, see `mlm_recipes.evaluation.pseudo_perplexity.mask_alone`. Rows
        that are equal to the model, whatever their text was, are measured once: windows of different documents that
        end with the same licence, or paragraphs that differ only after the tokens that are kept.
        """
        first = _first_of_each(rows)
        repeated = len(rows) - len(first)
        rows = rows.select(first) if repeated else rows
        paragraph = np.unique(paragraph_of(column(rows, "example_id")), return_inverse=True)[1]
        tokens = sum(int((~np.isin(ids, special_ids)).sum()) for ids in flat_column(rows, "input_ids"))
        alone = mask_alone(rows, special_ids, seed, budget)
        return cls(name, rows, paragraph, unit, draws_for(tokens, draws), alone, repeated)

    def measure(self, evaluate: Evaluate) -> Measurement:
        """Measure a model."""
        draws = [evaluate(self.rows, draw) for draw in range(self.draws)]
        return Measurement(self, draws, evaluate(self.alone.rows, 0))


def _first_of_each(rows: Dataset) -> list[int]:
    """Return the index of the first row of each group of rows with the same tokens."""
    ends = np.cumsum(list_lengths(rows, "input_ids"))
    flat = np.concatenate([*flat_column(rows, "input_ids"), np.empty(0, dtype=np.int32)])
    first: dict[bytes, int] = {}
    for index, ids in enumerate(np.split(flat, ends[:-1]) if len(ends) else []):
        first.setdefault(ids.tobytes(), index)
    return [*first.values()]


def draws_for(tokens: int, most: int) -> int:
    """Return the number of mask draws, at most `most`, for a text with this many tokens.

    >>> draws_for(6_000, 5), draws_for(30_000, 5), draws_for(10_000_000, 5)
    (5, 2, 1)
    """
    return max(1, min(most, int(MASKED_TOKENS / (EVALUATION_SHARE * max(1, tokens)))))


@dataclass(frozen=True)
class Measurement:
    """A model's results on a text."""

    text: MeasuredText
    draws: list[TokenResults]
    alone: TokenResults

    @property
    def tokens(self) -> TokenResults:
        """The results of all draws' masked tokens."""
        return TokenResults.joined(self.draws)

    def sums(self, results: TokenResults) -> Floats:
        """Return the sums of each paragraph, shape `(paragraphs, 4)`."""
        return results.sums(self.text.paragraph[results.row], int(self.text.paragraph.max()) + 1)

    def alone_sums(self) -> Floats:
        """Return each paragraph's sums over the tokens that were masked one at a time, shape `(paragraphs, 4)`."""
        paragraph = self.text.paragraph[self.text.alone.of_row[self.alone.row]]
        return self.alone.sums(paragraph, int(self.text.paragraph.max()) + 1)

    def summary(self) -> TextScores:
        """Return the measures, as in metrics.json under `before` and `after`."""
        found = {
            **measures(self.sums(self.tokens)),
            "pseudo_perplexity": measures(self.alone_sums())["perplexity"],
            "first_draw": measures(self.sums(self.draws[0])),
        }
        return cast(TextScores, found)

    def fingerprint(self) -> str:
        """Return the sha256 of the rows and each draw's masked tokens; runs with the same one can be compared."""
        digest = hashlib.sha256()
        for ids in flat_column(self.text.rows, "input_ids"):
            digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())
        for draw in self.draws:
            for masked in (draw.row, draw.position, draw.token):
                digest.update(np.ascontiguousarray(masked, dtype="<i8").tobytes())
        return digest.hexdigest()

    def sample(self) -> Sample:
        """Return what the measurement covers, as in metrics.json under `change`."""
        tokens = self.tokens
        return {
            "text": self.text.name,
            "draws": len(self.draws),
            "masked_tokens": len(tokens),
            "distinct_tokens": np.unique(np.stack([tokens.row, tokens.position]), axis=1).shape[1],
            "paragraphs": int((self.sums(tokens)[:, MASKED] > 0).sum()),
            "unit": self.text.unit,
            "fingerprint": self.fingerprint(),
            "repeated_rows": self.text.repeated,
            "pseudo_perplexity_sample": {
                "tokens": len(self.alone),
                "paragraphs": int((self.alone_sums()[:, MASKED] > 0).sum()),
                "share": self.text.alone.share,
            },
        }


def change(before: Measurement, after: Measurement) -> TextChange:
    """Return a text's entry in metrics.json's `change`: each measure before and after, and its interval."""
    found = paired_changes(before.sums(before.tokens), after.sums(after.tokens))
    alone = paired_changes(before.alone_sums(), after.alone_sums(), ["perplexity"])
    changed = {
        **before.sample(),
        "measures": {
            "loss": found["loss"],
            "perplexity": found["perplexity"],
            "accuracy": found["accuracy"],
            "top5_accuracy": found["top5_accuracy"],
            "pseudo_perplexity": alone["perplexity"],
        },
    }
    return cast(TextChange, changed)


def gain(before: Measurement, after: Measurement) -> Gain:
    """Return metrics.json's `gain`: by how many nats per masked token the loss fell, with its interval."""
    old, new = before.sums(before.tokens), after.sums(after.tokens)
    low, high = interval_of_gain(old, new)
    fallen = measures(old)["loss"] - measures(new)["loss"]
    found: Gain = {"loss": fallen, "low": low, "high": high}
    found[before.text.unit] = int((old[:, MASKED] > 0).sum())
    return found
