"""Compares the answers of two classifiers to the same texts: paired intervals, and McNemar's test."""

from __future__ import annotations

from math import comb

import numpy as np

from ...masking.random_keys import Floats, Ints
from ...probes_file import Disagreement, ProbeMeasure
from ..paired_bootstrap import resampled
from ..verdict import verdict_of

#: The resamples of an interval.
RESAMPLES = 10_000


def accuracy_change(
    before: Floats, after: Floats, groups: Ints, fold: Ints, resamples: int = RESAMPLES
) -> ProbeMeasure:
    """Return how often both were right, and the change with its 95% interval.

    Args:
        before, after: how often each text was classified correctly, 0 to 1, shape `(texts,)`.
        groups: near duplicates, which are drawn together, shape `(texts,)`.
        fold: each text's fold, shape `(texts,)`.
        resamples: of the paired bootstrap over texts (Efron & Tibshirani 1993, chapter 13).

    The interval is that of the bootstrap, and wider if the folds differ by more than the texts in them explain
    (`_widening`).

    >>> before, after = np.array([1.0, 0, 0, 0] * 10), np.array([1.0, 1, 1, 0] * 10)
    >>> found = accuracy_change(before, after, np.arange(40), np.arange(40) // 8)
    >>> found["before"], found["after"], found["verdict"]
    (0.25, 0.75, 'better')
    """
    sums = _by_group(np.stack([before, after, np.ones(len(before))], axis=1), groups)
    drawn = resampled(sums, resamples, seed=0)
    changes = (drawn[:, 1] - drawn[:, 0]) / drawn[:, 2]
    return _measure(float(before.mean()), float(after.mean()), changes, _widening(after - before, groups, fold))


def macro_f1_change(
    labels: Ints, before: Ints, after: Ints, groups: Ints, fold: Ints, resamples: int = RESAMPLES
) -> ProbeMeasure:
    """Return the mean F1 of all labels before and after, and the change with its 95% interval.

    `before` and `after` are the labels that were answered, shape `(texts,)`; for the rest see `accuracy_change`.

    >>> labels = np.array([0, 1] * 20)
    >>> answered = np.zeros(40, int)
    >>> round(macro_f1_change(labels, answered, labels, np.arange(40), np.arange(40) // 8)["before"], 3)
    0.333
    """
    kinds = int(max(labels.max(), before.max(), after.max())) + 1

    def columns(answered: Ints) -> Floats:
        hit = np.zeros((len(labels), kinds))
        hit[np.arange(len(labels)), labels] = answered == labels
        both = np.zeros((len(labels), kinds))  # how often a label is true, and how often it is answered
        np.add.at(both, (np.arange(len(labels)), labels), 1)
        np.add.at(both, (np.arange(len(labels)), answered), 1)
        return np.concatenate([hit, both], axis=1)  # (texts, 2 * kinds)

    def f1(sums: Floats) -> Floats:
        hit, both = sums[..., :kinds], sums[..., kinds:]
        there = both > 0
        return np.where(there, 2 * hit / np.maximum(both, 1), 0.0).sum(-1) / there.sum(-1)

    every = np.concatenate([columns(before), columns(after)], axis=1)
    drawn = resampled(_by_group(every, groups), resamples, seed=0)
    total = every.sum(0)
    changes = f1(drawn[:, 2 * kinds :]) - f1(drawn[:, : 2 * kinds])
    right = (after == labels).astype(float) - (before == labels)
    widening = _widening(right, groups, fold)
    return _measure(float(f1(total[: 2 * kinds])), float(f1(total[2 * kinds :])), changes, widening)


def disagreement(before: Ints, after: Ints) -> Disagreement:
    """Return on how many texts only one of two was right, and the p-value of McNemar's exact test (McNemar 1947).

    `before` and `after`: whether each text was classified correctly, shape `(texts,)`.

    >>> disagreement(np.array([1, 1, 0, 0, 0, 0, 0]), np.array([1, 0, 1, 1, 1, 1, 1]))
    {'only_before': 1, 'only_after': 5, 'p': 0.21875}
    """
    one, other = int((before > after).sum()), int((after > before).sum())
    total = one + other
    tail = sum(comb(total, number) for number in range(min(one, other) + 1))
    return {"only_before": one, "only_after": other, "p": min(1.0, 2 * tail / 2**total)}


def _by_group(rows: Floats, groups: Ints) -> Floats:
    """Return the sums of each group's rows, shape `(groups, columns)`."""
    _, unit = np.unique(groups, return_inverse=True)
    found = np.zeros((int(unit.max()) + 1, rows.shape[1]))
    np.add.at(found, unit, rows)
    return found


def _widening(change: Floats, groups: Ints, fold: Ints) -> float:
    """Return by how much an interval that only texts explain is too narrow: 1 or more.

    A bootstrap over texts takes the classifiers as given. They have learned from a sample, too, and all texts of a fold
    are classified by the same one, so the change differs between folds by more than by chance. That comparisons by
    cross-validation find too much if they forget this is well known (Dietterich 1998, "Approximate statistical tests";
    Nadeau & Bengio 2003, "Inference for the generalization error"; Bates, Hastie & Tibshirani 2021, arXiv:2104.00673).
    The standard error is that of the mean of the folds, if that is larger than that of the mean of the texts.
    """
    sums = _by_group(np.stack([change, np.ones(len(change))], axis=1), groups)
    left = sums[:, 0] - change.mean() * sums[:, 1]
    by_texts = np.sqrt((left**2).sum()) / len(change)
    means = np.array([change[fold == number].mean() for number in np.unique(fold)])
    by_folds = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
    return float(max(1.0, by_folds / by_texts)) if by_texts > 0 else 1.0


def _measure(before: float, after: float, changes: Floats, widening: float) -> ProbeMeasure:
    ends = np.quantile(changes, [0.025, 0.975])
    if widening > 1:
        ends = after - before + widening * (ends - (after - before))
    low, high = ends.tolist()
    return {
        "before": before,
        "after": after,
        "change": after - before,
        "low": low,
        "high": high,
        "verdict": verdict_of(low, high),
    }
