"""Checks the values that name a run's probes, and says what a probe may decide."""

from __future__ import annotations

from typing import Any

#: The measure of an evaluation during training that is a probe's, with `metric_for_best_model`.
PROBE_ACCURACY = "probe_accuracy"


def probe_names(value: list[str] | str | None) -> list[str] | None:
    """Return the names of a run's probes, of which one or several may be given; None if there are none.

    >>> probe_names("stoic"), probe_names(["a.csv", "b.csv"]), probe_names("none"), probe_names([])
    (['stoic'], ['a.csv', 'b.csv'], None, None)
    """
    names = [value] if isinstance(value, str) else list(value or ())
    return None if not names or names == ["none"] else names


def check_probe(config: Any) -> None:
    """Raise ValueError for a probe's values that are out of range, or that belong to no probe."""
    names: list[str] = config.probe or []
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"probe: received {twice[0]!r} more than once. Accepted: each table once. Leave it out the second time."
        )
    for name in ("probe_text_column", "probe_label_column"):
        if getattr(config, name) is not None and not names:
            raise ValueError(
                f"{name}: received {getattr(config, name)!r} without a probe. Accepted: a column with --probe, a table "
                f"of labelled texts. Pass --probe reviews.csv too, or leave {name} out."
            )
    if config.max_probe_samples < 50:
        raise ValueError(
            f"max_probe_samples: received {config.max_probe_samples}. Accepted: 50 or more, since fewer texts show "
            "nothing. Leave it out for the default, 2000."
        )
    if selects(config) and not names:
        raise ValueError(
            f"metric_for_best_model: received {config.metric_for_best_model!r} without a probe. Accepted: "
            f"{PROBE_ACCURACY} with --probe, a table of labelled texts. Pass --probe reviews.csv too."
        )


def selects(config: Any) -> bool:
    """Tell whether a probe decides which checkpoint is the best."""
    return str(config.metric_for_best_model).removeprefix("eval_") == PROBE_ACCURACY
