"""What the interval of a change says: better, worse, or nothing that can be measured."""

from __future__ import annotations

from ..probes_file import ProbeVerdict


def verdict_of(low: float, high: float) -> ProbeVerdict:
    """Return what an interval says of a measure that is better the higher it is.

    >>> verdict_of(0.01, 0.03), verdict_of(-0.03, -0.01), verdict_of(0.0, 0.03)
    ('better', 'worse', 'no measurable change')
    """
    return "better" if low > 0 else "worse" if high < 0 else "no measurable change"
