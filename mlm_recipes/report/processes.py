"""How many processes trained, and how evenly their work was divided."""

from __future__ import annotations

from ..metrics_file import Balance


def trained_by(processes: int, balance: Balance | None) -> str:
    """Return how many processes trained, and how many tokens the busiest had, if that is known.

    >>> trained_by(2, None), trained_by(2, dict(by_length=True, max_to_mean=1.0032, in_order=1.145))
    ('2', '2; in a step, the busiest had 1.003 times the mean number of tokens (1.145 if dealt in order)')
    >>> trained_by(8, dict(by_length=False, max_to_mean=1.4575, in_order=1.4575))
    '8; in a step, the busiest had 1.458 times the mean number of tokens, and the others waited for it'
    """
    if balance is None:
        return f"{processes}"
    said = f"{processes}; in a step, the busiest had {balance['max_to_mean']:.4g} times the mean number of tokens"
    if balance["by_length"]:
        return f"{said} ({balance['in_order']:.4g} if dealt in order)"
    return f"{said}, and the others waited for it"
