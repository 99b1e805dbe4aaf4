"""The difference of two trainings' results, with an interval over both their seeds and the examples measured."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np

from ..finetune_file import FinetuneMeasure
from ..masking.random_keys import Floats, Ints
from .verdict import verdict_of

#: With fewer seeds, their spread is hardly known.
FEWEST_SEEDS = 5

#: From this number of degrees of freedom on, Student's t is the normal distribution to four digits.
_MANY = 1e4


def crossed_change(before: Floats, after: Floats) -> FinetuneMeasure:
    """Return the mean difference of crossed results, with a 95% interval for other seeds and other examples.

    Every seed is measured on the same examples, and the same seeds and examples are used before and after. So the
    differences are a two-way table without replication, whose mean varies with the seeds, with the examples, and with
    both together. This is the problem of several readers who read the same images twice, and the interval is the one
    used there: the analysis of variance of Dorfman, Berbaum and Metz 1992 (Investigative Radiology 27), with the
    degrees of freedom of Hillis 2007 (https://doi.org/10.1002/sim.2532). A bootstrap of both at once (Owen 2007,
    https://arxiv.org/abs/0712.1111) counts the last part three times, and the last part is the largest here.

    Args:
        before, after: shape `(seeds, examples)`; whether an example was classified correctly, or its `pseudo_values`.

    >>> before = np.zeros((5, 40))
    >>> after = np.random.default_rng(0).binomial(1, 0.5, size=(5, 40)).astype(float)
    >>> found = crossed_change(before, after)
    >>> round(found["change"], 3), round(found["low"], 3), round(found["high"], 3), found["verdict"]
    (0.56, 0.443, 0.677, 'better')
    """
    difference = after - before
    seeds, examples = difference.shape
    mean = difference.mean()
    of_seeds = difference.mean(axis=1, keepdims=True) - mean
    of_examples = difference.mean(axis=0, keepdims=True) - mean
    rest = difference - mean - of_seeds - of_examples
    ms_seeds = examples * float((of_seeds**2).sum()) / (seeds - 1)
    ms_examples = seeds * float((of_examples**2).sum()) / (examples - 1)
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (examples - 1))
    spread = ms_seeds + max(ms_examples - ms_rest, 0.0)
    freedom = spread**2 / (ms_seeds**2 / (seeds - 1)) if ms_seeds > 0 else inf
    margin = student_t(freedom) * sqrt(spread / (seeds * examples))
    low, high = float(mean) - margin, float(mean) + margin
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "change": float(mean),
        "low": low,
        "high": high,
        "verdict": verdict_of(low, high),
    }


def macro_f1_change(labels: Ints, before: Ints, after: Ints, kinds: int) -> FinetuneMeasure:
    """Return the same for macro-F1, from its `pseudo_values`.

    Args:
        labels: 0 to `kinds - 1`, shape `(examples,)`.
        before, after: the labels that were answered, shape `(seeds, examples)`.

    >>> labels = np.arange(40) % 2
    >>> macro_f1_change(labels, np.zeros((5, 40), int), np.tile(labels, (5, 1)), 2)["change"].__round__(3)
    0.667
    """
    values = [np.stack([pseudo_values(labels, answers, kinds) for answers in each]) for each in (before, after)]
    found = crossed_change(*values)
    old, new = (float(np.mean([macro_f1(labels, answers, kinds) for answers in each])) for each in (before, after))
    bias = new - old - found["change"]  # of the plain means, which are what people compute
    low, high = found["low"] + bias, found["high"] + bias
    return {
        "before": old,
        "after": new,
        "change": new - old,
        "low": low,
        "high": high,
        "verdict": verdict_of(low, high),
    }


def macro_f1(labels: Ints, predicted: Ints, kinds: int) -> float:
    """Return the mean F1 over the labels 0 to `kinds - 1`; that of a label neither there nor predicted is 0.

    >>> round(macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 2), 3)
    0.667
    """
    return float(_macro_f1(_counts(labels, predicted, kinds)))


def pseudo_values(labels: Ints, predicted: Ints, kinds: int) -> Floats:
    """Return each example's jackknife pseudo-value of macro-F1, shape `(examples,)`.

    That is `n * F1 - (n - 1) * F1 without the example`; their mean is macro-F1, with less bias. Those of accuracy would
    be 1 for each correct example, and 0 for the others.

    >>> pseudo_values(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 2).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    counts = _counts(labels, predicted, kinds)
    cells, of_cell = np.unique(np.stack([labels, predicted]), axis=1, return_inverse=True)
    without = []
    for label, answer in cells.T.tolist():  # all examples with the same label and answer have the same value
        left = counts.copy()
        left[label, answer] -= 1
        without.append(_macro_f1(left))
    whole, examples = _macro_f1(counts), len(labels)
    return examples * whole - (examples - 1) * np.array(without)[of_cell.ravel()]


def _counts(labels: Ints, predicted: Ints, kinds: int) -> Ints:
    """Return how many examples have each label and each answer, shape `(kinds, kinds)`."""
    return np.bincount(labels * kinds + predicted, minlength=kinds * kinds).reshape(kinds, kinds)


def _macro_f1(counts: Ints) -> float:
    right, both = np.diagonal(counts), counts.sum(axis=0) + counts.sum(axis=1)
    return float((2 * right / np.maximum(both, 1)).mean())


def student_t(freedom: float) -> float:
    """Return the 97.5% quantile of Student's t distribution with `freedom` degrees of freedom, 1 or more.

    >>> [round(student_t(freedom), 3) for freedom in (1, 4, 30, 1e9)]
    [12.706, 2.776, 2.042, 1.96]
    """
    freedom = min(freedom, _MANY)
    # With t = sqrt(freedom) * tan(angle), the density is cos(angle) ** (freedom - 1), up to a factor.
    angle = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return sqrt(freedom) * float(np.tan(np.interp(0.95 * below[-1], below, angle)))
