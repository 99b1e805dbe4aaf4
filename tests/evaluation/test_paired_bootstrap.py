from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_recipes.evaluation.paired_bootstrap import MASKED, MEASURES, NATS, interval_of_gain, measures, paired_changes

#: scipy 1.17.1's intervals for `two_measurements(60)` (scipy.stats.bootstrap, paired, percentile, 100,000 resamples).
SCIPY = {
    "loss": (-0.61511, -0.39991),
    "perplexity": (-28.3885, -18.3610),
    "accuracy": (0.14801, 0.19269),
    "top5_accuracy": (0.10272, 0.14405),
}


def two_measurements(paragraphs, seed=0):
    """Sums of the same paragraphs twice, the second time about half a nat per token better."""
    generator = np.random.default_rng(seed)
    masked = generator.integers(1, 30, paragraphs).astype(float)
    nats = masked * generator.normal(4.0, 0.5, paragraphs)
    gains = masked * generator.normal(0.5, 0.4, paragraphs)
    right = generator.binomial(masked.astype(int), 0.3), generator.binomial(masked.astype(int), 0.5)
    more = generator.binomial(masked.astype(int), 0.15), generator.binomial(masked.astype(int), 0.12)
    before = np.stack([nats, *right, masked], axis=1)
    after = np.stack([nats - gains, right[0] + more[0], right[1] + more[1], masked], axis=1)
    return before, after


def by_hand(before, after, measure, resamples, seed=1):
    """The plain paired bootstrap: a loop with its own random numbers."""
    generator, changes = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = [generator.integers(len(before)) for _ in before]
        changes.append(measure(after[drawn].sum(axis=0)) - measure(before[drawn].sum(axis=0)))
    return np.quantile(changes, [0.025, 0.975])


@pytest.mark.parametrize("name", MEASURES)
def test_the_interval_equals_that_of_a_plain_loop(name):
    before, after = two_measurements(60)
    found = paired_changes(before, after)[name]
    width = found["high"] - found["low"]
    expected = by_hand(before, after, MEASURES[name], 1500)
    assert [found["low"], found["high"]] == pytest.approx(list(expected), abs=0.12 * width)
    assert found["change"] == pytest.approx(MEASURES[name](after.sum(axis=0)) - MEASURES[name](before.sum(axis=0)))


@pytest.mark.parametrize("name", MEASURES)
def test_the_interval_agrees_with_scipy(name):
    found = paired_changes(*two_measurements(60))[name]
    width = found["high"] - found["low"]
    assert (found["low"], found["high"]) == pytest.approx(SCIPY[name], abs=0.04 * width)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURES)
def test_the_recorded_scipy_intervals_are_current(name):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not a dependency: pip install scipy")
    before, after = two_measurements(60)

    def change(*columns, axis):
        sums = np.stack([column.sum(axis=axis) for column in columns], axis=-1)  # (resamples, 8)
        return MEASURES[name](sums[..., 4:]) - MEASURES[name](sums[..., :4])

    given = (*before.T, *after.T)
    result = stats.bootstrap(
        given, change, paired=True, method="percentile", n_resamples=100_000, batch=1000, rng=np.random.default_rng(7)
    )
    low, high = result.confidence_interval
    assert (low, high) == pytest.approx(SCIPY[name], abs=0.02 * (high - low))


def test_the_interval_is_the_normal_one_for_many_paragraphs():
    """For many paragraphs, the bootstrap's interval is the normal one for a ratio of sums (the delta method)."""
    before, after = two_measurements(400)
    found = paired_changes(before, after)["loss"]
    rise, masked = after[:, NATS] - before[:, NATS], before[:, MASKED]
    change = rise.sum() / masked.sum()
    error = np.sqrt(((rise - change * masked) ** 2).sum()) / masked.sum()
    assert found["change"] == pytest.approx(change)
    assert found["low"] == pytest.approx(change - 1.96 * error, abs=0.1 * error)
    assert found["high"] == pytest.approx(change + 1.96 * error, abs=0.1 * error)


def test_the_interval_contains_the_true_value_in_19_of_20_cases():
    held = 0
    for seed in range(200):
        found = paired_changes(*two_measurements(50, seed), ["loss"], resamples=500)["loss"]
        held += found["low"] <= -0.5 <= found["high"]
    assert 0.88 <= held / 200 <= 0.99


def test_the_bootstrap_is_paired():
    before, after = two_measurements(50)
    found, mirrored = paired_changes(before, after)["loss"], paired_changes(after, before)["loss"]
    assert (found["low"], found["high"]) == pytest.approx((-mirrored["high"], -mirrored["low"]))
    constant = before.copy()
    constant[:, NATS] -= (
        0.3 * before[:, MASKED]
    )  # each paragraph by the same amount, so the interval is narrow however much they differ
    found = paired_changes(before, constant)["loss"]
    assert (found["low"], found["high"]) == pytest.approx((-0.3, -0.3))
    assert paired_changes(before, after) == paired_changes(before, after)


def test_the_gain_is_the_negative_change_of_the_loss():
    before, after = two_measurements(30)
    found = paired_changes(before, after)["loss"]
    assert interval_of_gain(before, after) == (-found["high"], -found["low"])


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("loss", -0.5, "better"),
        ("loss", 0.5, "worse"),
        ("perplexity", 0.5, "worse"),
        ("accuracy", 0.5, "better"),
        ("accuracy", -0.5, "worse"),
        ("top5_accuracy", 0.5, "better"),
        ("loss", 0.0, "no measurable change"),
    ],
)
def test_the_verdict_depends_on_the_measures_direction(name, change, says):
    column = {"loss": 0, "perplexity": 0, "accuracy": 1, "top5_accuracy": 2}[name]
    before, _ = two_measurements(30)
    after = before.copy()
    after[:, column] += change * before[:, MASKED]
    assert paired_changes(before, after)[name]["verdict"] == says


def test_an_interval_that_includes_zero_is_no_measurable_change():
    before, _ = two_measurements(30)
    noise = before.copy()
    noise[::2, NATS] += 5
    noise[1::2, NATS] -= 5
    found = paired_changes(before, noise)["loss"]
    assert found["low"] < 0 < found["high"]
    assert found["verdict"] == "no measurable change"


def test_paragraphs_without_a_masked_token_do_not_count():
    before, after = two_measurements(20)
    nothing = np.zeros((3, 4))
    assert paired_changes(np.concatenate([before, nothing]), np.concatenate([after, nothing])) == paired_changes(
        before, after
    )


def test_few_paragraphs_have_no_interval():
    before, after = two_measurements(9)
    for found in paired_changes(before, after).values():
        assert (found["low"], found["high"], found["verdict"]) == (None, None, "too few paragraphs")
    assert all(isinstance(end, float) for end in interval_of_gain(before, after))
    assert paired_changes(*two_measurements(10))["loss"]["low"] is not None


def test_results_of_different_masks_are_not_compared():
    before, after = two_measurements(20)
    after[3, MASKED] += 1
    with pytest.raises(AssertionError, match="not the same masked tokens"):
        paired_changes(before, after)


@given(parts=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_measures_do_not_depend_on_how_the_paragraphs_are_grouped(parts, seed):
    """Sums are taken first: however the paragraphs are grouped, a measure of the whole is the same."""
    sums, _ = two_measurements(sum(parts), seed)
    joined = np.add.reduceat(sums, np.cumsum([0, *parts[:-1]]), axis=0)
    assert measures(joined) == pytest.approx(measures(sums))


def test_a_huge_loss_has_a_finite_perplexity():
    assert np.isfinite(measures(np.array([[2000.0, 0, 0, 1]]))["perplexity"])
