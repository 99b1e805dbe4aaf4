from __future__ import annotations

from fractions import Fraction
from math import ceil

from hypothesis import example, given
from hypothesis import strategies as st

from mlm_recipes.masking.share_of_steps import share_of_steps


@given(st.integers(1, 9_999), st.sampled_from([10, 100, 1_000, 10_000]), st.integers(1, 10**8))
@example(55, 100, 100)  # 55.00000000000001 in floating point
@example(55, 100, 10**7)
def test_a_share_is_what_its_decimal_number_says(part, whole, steps):
    """Also of a hundred million steps, whose floating-point error is in the eighth digit."""
    share = Fraction(part % whole, whole)
    assert share_of_steps(float(share), steps) == ceil(share * steps)


def test_a_share_that_is_nearly_none_of_the_steps_is_one():
    assert share_of_steps(1e-15, 100) == 1
