from __future__ import annotations

import numpy as np
import pytest

from mlm_recipes.evaluation.probes.folds import deal
from mlm_recipes.evaluation.probes.learning_curve import learning_curve
from mlm_recipes.evaluation.probes.linear_probe import cross_validate, learn_and_answer

GROUPS = np.arange(120)


def task(kinds=2, apart=1.5, ways=1, seed=0):
    """Features of which the last way tells the label, and the others do not."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(120) % kinds)
    features = generator.normal(size=(ways, 120, 8))
    features[-1] += apart * generator.normal(size=(kinds, 8))[labels]
    return features.astype(np.float32), labels, deal(labels, GROUPS, 5, 0)


@pytest.mark.parametrize("kinds", [2, 4])
def test_what_can_be_learned_is(kinds):
    features, labels, fold = task(kinds)
    assert (cross_validate(features, labels, GROUPS, fold).predicted == labels).mean() > 0.85


def test_the_layers_that_tell_are_chosen():
    features, labels, fold = task(ways=3)
    assert {way for way, _ in cross_validate(features, labels, GROUPS, fold).chosen} == {2}


@pytest.mark.slow
def test_of_labels_at_random_nothing_is_learned():
    features, _, _ = task(ways=3)
    right = []
    for seed in range(10):
        labels = np.random.default_rng(seed).permutation(np.arange(120) % 2)
        found = cross_validate(features, labels, GROUPS, deal(labels, GROUPS, 5, 0)).predicted
        right.append((found == labels).mean())
    assert 0.4 < np.mean(right) < 0.55


def test_the_texts_that_are_classified_take_no_part():
    """Whatever their labels and those of other texts to classify are, the answer to a text is the same."""
    features, labels, _ = task(apart=0.5, ways=3)
    train, test = np.arange(90), np.arange(90, 120)
    answers = []
    for changed in (labels, np.where(np.arange(120) < 90, labels, 1 - labels)):
        answers.append(learn_and_answer(features, changed, GROUPS, train, test, 0))
    assert (answers[0][0] == answers[1][0]).all()
    assert answers[0][1:] == answers[1][1:]
    alone = [learn_and_answer(features, labels, GROUPS, train, np.array([text]), 0)[0][0] for text in test[:5]]
    assert alone == answers[0][0][:5].tolist()


def test_the_scale_and_the_place_of_features_do_not_matter():
    features, labels, fold = task(apart=0.5)
    moved = features * np.float32(1e3) + np.float32(500)
    one, other = (cross_validate(each, labels, GROUPS, fold).predicted for each in (features, moved))
    assert (one == other).mean() > 0.98  # rounding in float32


def test_a_label_that_only_one_fold_has_is_no_error():
    features, labels, fold = task()
    labels[:3] = 2
    assert (cross_validate(features, labels, np.where(np.arange(120) < 3, 0, GROUPS), fold).predicted >= 0).all()


@pytest.mark.slow
def test_the_curve_rises_and_draws_the_same_labels_for_other_features():
    features, labels, fold = task(kinds=3, apart=0.8)
    points = learning_curve(features, labels, GROUPS, fold)
    assert [(point.labels, point.draws) for point in points] == [(16, 4), (64, 2)]
    assert points[0].correct.mean() < points[1].correct.mean()
    assert set(np.unique(4 * points[0].correct)) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    again = learning_curve(features, labels, GROUPS, fold)
    assert all((one.correct == other.correct).all() for one, other in zip(points, again, strict=True))
