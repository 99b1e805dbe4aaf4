"""Training on `MixedRows` or `PreparedRows`: an epoch's order, what identifies the rows, and how many were read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from ...data.all_ids import fingerprint
from ...data.columns import list_lengths
from ...data.id_limits import IdLimits
from ...data.mixed_rows import MixedOrder, MixedRows
from ...data.prepared_rows import PreparedRows
from ...data.row_lengths import row_lengths
from ...data.shuffled_order import ShuffledOrder
from ...masking.random_keys import Ints
from ...metrics_file import MixedIn
from .example_order import NO_EXAMPLE, EpochSampler


def check_mixed(train_dataset: Any, args: Any) -> None:
    """Raise ValueError if `MLMConfig(mix=...)` names texts, and the data set is not mixed with any."""
    if args.mix and train_dataset is not None and not isinstance(train_dataset, MixedRows):
        raise ValueError(
            f"mix: received {args.mix} with train_dataset {type(train_dataset).__name__}. Accepted here: no value, or "
            "mix_rows(...) as train_dataset, since only train() loads texts by their names. Pass "
            'train_dataset=mix_rows(rows, {"general": (general_rows, 0.1)}), or call mlm_recipes.train(mix=...).'
        )


def order_of(rows: Any, args: Any) -> MixedOrder | ShuffledOrder | None:
    """Return which row each place of an epoch has, by a run's seed and its strategy; None if the sampler decides."""
    seed = args.seed if args.data_seed is None else args.data_seed
    shuffled = str(args.train_sampling_strategy) != "sequential"
    if isinstance(rows, PreparedRows):
        return ShuffledOrder(len(rows), seed) if shuffled else None
    return rows.order(seed, shuffled) if isinstance(rows, MixedRows) else None


def all_rows(rows: Any) -> Any:
    """Return the rows of all texts, whichever of them an epoch has."""
    return rows.rows if isinstance(rows, MixedRows) else rows


def own_rows(rows: Any) -> Any:
    """Return the rows of the training text alone, without those that are mixed in."""
    return rows.rows.select(range(rows.own)) if isinstance(rows, MixedRows) else rows


def lengths_of(rows: Any, args: Any) -> Callable[[int], Ints]:
    """Return a function of the epoch that returns the number of tokens at each of its places; it reads all rows."""
    found, order = row_lengths(all_rows(rows)), order_of(rows, args)
    if not isinstance(order, MixedOrder):
        return lambda epoch: found
    there = order
    return lru_cache(maxsize=1)(lambda epoch: found[there.rows(epoch)])


def text_of(rows: Any, limits: IdLimits) -> str:
    """Return what identifies a training text for a resume: its rows, and those mixed in with their number per epoch.

    Raises: ValueError for a row outside the `limits`.
    """
    if isinstance(rows, PreparedRows):
        return rows.identity(limits)
    if not isinstance(rows, MixedRows):
        return f"{len(rows)} rows, {fingerprint(rows, limits=limits)}"
    own = rows.rows.select(range(rows.own))
    said = f"{len(own)} rows, {fingerprint(own, limits=limits)}"
    for part in rows.parts:
        mixed = rows.rows.select(range(part.first, part.first + part.rows))
        of_part = replace(limits, rows=f"{limits.rows}, {part.name!r}")
        said += f", mixed with {part.rows_per_epoch} an epoch of {part.rows} rows, {fingerprint(mixed, limits=of_part)}"
    return said


def mixed_in(rows: Any, sampler: EpochSampler, args: Any, steps: int) -> list[MixedIn]:
    """Return how much of each text that is mixed in the first `steps` steps of a run read; [] without a mixture."""
    order = order_of(rows, args)
    if not isinstance(order, MixedOrder):
        return []
    times = np.zeros(len(rows.rows), dtype=np.int64)
    for epoch in range(-(-steps // sampler.steps_an_epoch)):
        sampler.set_epoch(epoch)
        keys = np.concatenate([*islice(sampler.steps(), steps - epoch * sampler.steps_an_epoch)])
        np.add.at(times, order.rows(epoch)[keys[keys != NO_EXAMPLE] % len(rows)], 1)
    tokens = times * list_lengths(rows.rows, "input_ids")
    return [
        {
            "name": part.name,
            "rows": int(times[here].sum()),
            "tokens": int(tokens[here].sum()),
            "share": float(tokens[here].sum() / tokens.sum()),
            "times_read": float(times[here].mean()),
        }
        for part in rows.parts
        for here in [slice(part.first, part.first + part.rows)]
    ]
