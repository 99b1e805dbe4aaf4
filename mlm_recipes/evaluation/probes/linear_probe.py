"""A regularised linear classifier on frozen features, whose layers and strength are chosen on its training texts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...masking.random_keys import Floats, Ints
from .folds import deal

#: The strengths that are tried: scikit-learn's C, the inverse of the weight of the squared coefficients. The features
#: have unit variance, so that 1 hardly regularises a few hundred of them.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

#: With which the layers are chosen.
_MIDDLE = 1e-2

#: The folds within the training texts that choose.
INNER_FOLDS = 3

#: The least probability that counts: a label that a fold does not have is not impossible.
_LEAST = 1e-6


@dataclass(frozen=True)
class Answers:
    """What the classifiers answered: each text's label by that of the other folds, shape `(texts,)`.

    `chosen` has each fold's features (an index) and strength.
    """

    predicted: Ints
    chosen: list[tuple[int, float]]


def cross_validate(features: Floats, labels: Ints, groups: Ints, fold: Ints, seed: int = 0) -> Answers:
    """Classify each text by what is learned from the texts of the other folds.

    Args:
        features: float32, shape `(ways, texts, width)`: several ways to make a vector of a text.
        labels, groups: as for `deal`.
        fold: each text's fold.
        seed: of the inner folds.

    In each fold, the way and then the strength with the lowest log loss in a cross-validation within the training texts
    are chosen; the texts that are classified take no part (nested cross-validation: Cawley & Talbot 2010, "On
    over-fitting in model selection"). That frozen features tell what an encoder has learned: Alain & Bengio 2016,
    arXiv:1610.01644.

    >>> generator = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> told = generator.normal(size=(60, 4)) + 3 * labels[:, None]
    >>> features = np.stack([generator.normal(size=(60, 4)), told])
    >>> found = cross_validate(features, labels, np.arange(60), np.arange(60) // 12)
    >>> float(np.mean(found.predicted == labels)) > 0.9, {way for way, _ in found.chosen}
    (True, {1})
    """
    predicted, chosen = np.empty_like(labels), []
    for number in np.unique(fold).tolist():
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        found, way, strength = learn_and_answer(features, labels, groups, train, test, seed + number)
        predicted[test] = found
        chosen.append((way, strength))
    return Answers(predicted, chosen)


def learn_and_answer(
    features: Floats, labels: Ints, groups: Ints, train: Ints, test: Ints, seed: int
) -> tuple[Ints, int, float]:
    """Choose and learn from the texts `train`, and classify the texts `test`; return also what was chosen."""
    way, strength = _choose(features[:, train], labels[train], groups[train], seed)
    known, likely = _likely(features[way, train], labels[train], features[way, test], [strength])
    return known[likely[0].argmax(1)], way, strength


def _choose(features: Floats, labels: Ints, groups: Ints, seed: int) -> tuple[int, float]:
    fold = deal(labels, groups, INNER_FOLDS, seed)
    # One after the other, which takes less than half of the time of all combinations.
    losses = [_loss(vectors, labels, fold, [_MIDDLE])[0] for vectors in features] if len(features) > 1 else [0.0]
    way = int(np.argmin(losses))
    # Of equals the first is taken: the stronger regularisation.
    return way, STRENGTHS[int(np.argmin(_loss(features[way], labels, fold, STRENGTHS)))]


def _loss(vectors: Floats, labels: Ints, fold: Ints, strengths: Sequence[float]) -> Floats:
    """Return the log loss of all texts by what is learned from the other folds, shape `(strengths,)`."""
    loss = np.zeros(len(strengths))
    for number in range(INNER_FOLDS):
        train, test = fold != number, fold == number
        if train.any() and test.any():
            known, likely = _likely(vectors[train], labels[train], vectors[test], strengths)
            own = labels[test][:, None] == known  # (test, known)
            loss -= np.log(np.maximum((likely * own).sum(2), _LEAST)).sum(1)
    return loss


def _likely(train: Floats, labels: Ints, test: Floats, strengths: Sequence[float]) -> tuple[Ints, Floats]:
    """Return the labels that were learned, and their probabilities, shape `(strengths, test, labels)`."""
    # Imported where it is needed: with scipy it takes a second.
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    if len(known) == 1:
        return known, np.ones((len(strengths), len(test), 1))
    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    spread[spread < 1e-6 * max(1e-30, float(spread.max()))] = 1.0  # constant in these texts
    # In float64, in which the solver converges; it is fast enough.
    scaled, new = (train - mean) / spread, (test - mean) / spread
    found = []
    # Nothing here is checked twice: of the thousand small problems of a probe, the checks would take half of the time.
    with config_context(assume_finite=True, skip_parameter_validation=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it has come close enough to classify
        for strength in strengths:
            # Of the solvers, lbfgs was the fastest for hundreds of features, and the only fast one for many labels.
            learner = LogisticRegression(C=strength, solver="lbfgs", tol=1e-3, max_iter=300).fit(scaled, labels)
            found.append(learner.predict_proba(new))
    return known, np.stack(found)
