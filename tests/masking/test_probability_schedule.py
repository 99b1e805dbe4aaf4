from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.masking.probability_schedule import SCHEDULES, ProbabilitySchedule, probability_schedule

shares = st.floats(1e-3, 1.0)


@given(st.sampled_from(["linear", "cosine"]), shares, shares, st.integers(2, 500))
def test_a_curve_begins_and_ends_with_exactly_the_shares_asked_for(kind, first, last, total):
    schedule = ProbabilitySchedule(kind, (first, last))
    found = [schedule(step, total) for step in range(total)]
    assert (found[0], found[-1]) == (first, last)
    assert found in (sorted(found), sorted(found, reverse=True)) or max(found) - min(found) < 1e-12
    assert {schedule(step, total) for step in (total, 2 * total)} == {
        last
    }  # batches fetched ahead, after the last step


def test_linear_is_half_way_in_the_middle_and_cosine_stays_longer_at_both_ends():
    linear, cosine = (ProbabilitySchedule(kind, (0.3, 0.1)) for kind in ("linear", "cosine"))
    assert linear(50, 101) == pytest.approx(0.2) == cosine(50, 101)
    assert cosine(10, 101) > linear(10, 101)
    assert cosine(90, 101) < linear(90, 101)


@given(st.lists(shares, min_size=2, max_size=5, unique=True), st.integers(1, 300))
def test_phases_have_the_same_length_within_a_step(phases, total):
    schedule = ProbabilitySchedule("step", tuple(phases))
    found = [schedule(step, total) for step in range(total)]
    lengths = [found.count(share) for share in phases]
    assert sum(lengths) == total
    assert max(lengths) - min(lengths) <= 1
    assert [share for share in phases if share in found] == list(dict.fromkeys(found))
    assert schedule(total, total) == phases[-1]


@given(st.lists(shares, min_size=2, max_size=5, unique=True), st.integers(1, 40), st.data())
def test_without_the_phases_that_never_come_every_step_has_its_share(phases, total, data):
    inside = st.floats(0, 1, exclude_min=True, exclude_max=True)
    drawn = st.lists(inside, min_size=len(phases) - 1, max_size=len(phases) - 1, unique=True).map(sorted)
    boundaries = data.draw(st.just([]) | drawn)
    schedule = ProbabilitySchedule("step", tuple(phases), tuple(boundaries))
    found = [schedule(step, total) for step in range(total)]
    come = schedule.within(total)
    assert [come(step, total) for step in range(total)] == found
    assert list(come.shares) == list(dict.fromkeys(found))
    assert str(come).count("%") == len(set(found)) + (len(come.boundaries))


def test_a_phase_begins_with_the_first_step_at_its_boundary():
    schedule = ProbabilitySchedule("step", (0.3, 0.15, 0.05), (0.5, 0.8))
    assert [schedule(step, 10) for step in range(10)] == [0.3] * 5 + [0.15] * 3 + [0.05] * 2
    assert [schedule(step, 5) for step in range(5)] == [0.3] * 3 + [0.15] + [0.05]
    late = ProbabilitySchedule("step", (0.3, 0.15), (0.55,))  # 0.55 * 100 is above 55 in floating point
    assert [late(step, 100) for step in (54, 55)] == [0.3, 0.15]
    early = ProbabilitySchedule("step", (0.3, 0.15), (1e-12,))
    assert [early(step, 100) for step in (0, 1)] == [0.3, 0.15]


@pytest.mark.parametrize("total", [0, 1])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_run_of_one_step_has_the_first_share(kind, total):
    schedule = ProbabilitySchedule(kind, (0.3,) if kind == "constant" else (0.3, 0.15))
    assert schedule(0, total) == 0.3


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (("quadratic", 0.3, 0.15), "mlm_probability_schedule: received 'quadratic'. Accepted: constant, linear, cos"),
        (("constant", 0.3, 0.15), "mlm_probability_end: received 0.15 with mlm_probability_schedule 'constant'"),
        (("linear", 0.3), "mlm_probability_end: received None with .* 'linear'. Accepted: one number"),
        (("cosine", 0.3, [0.15, 0.05]), r"mlm_probability_end: received \[0.15, 0.05\] with .* 'cosine'"),
        (("step", 0.3, []), r"mlm_probability_end: received \[\] with .* 'step'. Accepted: the share of each phase"),
        (("step", 0.3, [0.15, 0]), "mlm_probability_end: received 0. Accepted: above 0, at most 1"),
        (("linear", 0.3, 1.5), "mlm_probability_end: received 1.5. Accepted: above 0"),
        (("linear", 0.3, "0.15"), "mlm_probability_end: received '0.15'. Accepted: above 0"),
        (("linear", 0.3, True), "mlm_probability_end: received True. Accepted: above 0"),
        (("linear", 0.3, float("nan")), "mlm_probability_end: received nan. Accepted: above 0"),
        (("linear", 0.3, 0.15, [0.5]), r"mlm_probability_boundaries: received \[0.5\] with .* 'linear'. Accepted: st"),
        (("step", 0.3, [0.15, 0.05], [0.5]), r"boundaries: received \[0.5\] with 2 in .* Pass .*boundaries 0.33 0.67"),
        (("step", 0.3, [0.15, 0.05], [0.8, 0.5]), "rising"),
        (("step", 0.3, [0.15, 0.05], [0.5, 0.5]), "rising"),
        (("step", 0.3, [0.15], [500]), "between 0 and 1"),
        (("step", 0.3, [0.15], ["a"]), "between 0 and 1"),
    ],
)
def test_values_that_make_no_schedule_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        probability_schedule(*values)
