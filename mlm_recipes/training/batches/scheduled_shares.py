"""Gives each training row the share of its tokens to mask, if that share changes during training.

Workers fetch batches ahead, so nothing but the row itself can tell its collator which step it is for. A row's place in
the order of the examples does: with n rows in a step, those of an epoch's step k begin at place k * n. If the order is
a list, each key in it gets its share; if keys are the places themselves, they remain plain numbers, and the share is
computed when a row is read, so that a resumed run passes over the others at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...data.rows import has_labels
from ...data.streams import RowStream, TextStream
from ...masking.collator import DataCollatorForMaskedLM
from ...masking.probability_schedule import ProbabilitySchedule
from ...masking.row_columns import SHARE
from ...report.wording import count
from ..config import MLMConfig
from .example_order import EpochSampler

logger = logging.getLogger(__name__)


class ScheduledShares(TrainerCallback):
    """The share of the tokens that each step of a run masks.

    `schedule` is None if it does not change. `total`, the number of steps that the run will have, is known once its
    loader is made. A run that stops early has followed its plan so far; one that is resumed with another total follows
    that from its next step on, as the learning rate does.
    """

    def __init__(self) -> None:
        self.schedule: ProbabilitySchedule | None = None
        self.total = 0

    def __call__(self, step: int) -> float:
        """Return the share of a step, counted from 0."""
        assert self.schedule is not None
        return self.schedule(step, self.total)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raise ValueError if the batches are another loader's, which does not know of the schedule."""
        assert isinstance(args, MLMConfig)
        if args.probability_schedule() != self.schedule:
            raise ValueError(
                f"mlm_probability_schedule: received {args.mlm_probability_schedule!r} with a get_train_dataloader of "
                "your own. Accepted: constant, since only MLMTrainer's loader knows the step that a row is for. Call "
                "super().get_train_dataloader(), or leave out the schedule."
            )
        if self.schedule is not None and (come := self.schedule.within(state.max_steps)).shares != self.schedule.shares:
            logger.warning(
                "mlm_probability_schedule: received %s, and the run has only %s. Accepted: a step or more for each "
                "phase. This run masks %s. Train for more steps.", self.schedule, count(state.max_steps, "step"), come
            )  # fmt: skip


class ScheduledKey(int):
    """A key of a row, and the `share` of its tokens to mask.

    >>> key = ScheduledKey(7, 0.3)
    >>> key == 7, key.share
    (True, 0.3)
    """

    share: float

    def __new__(cls, key: int, share: float) -> ScheduledKey:
        """Return the key."""
        made = super().__new__(cls, key)
        made.share = share
        return made

    def __reduce__(self) -> tuple[type[ScheduledKey], tuple[int, float]]:
        """Return what a worker process makes the key of."""
        return ScheduledKey, (int(self), self.share)


class ScheduledSampler(torch.utils.data.Sampler[int]):
    """Yield the keys of a sampler as ScheduledKeys.

    Args:
        keys: the order of the examples.
        rows_a_step: the rows of an optimizer step, over all its micro-batches and processes.
        share: returns the share of a step of the run, from 0; called when the rows of the step are fetched.

    An epoch's last step may have fewer rows. As in Trainer, the next epoch then begins with a new step.

    >>> sampler = ScheduledSampler(EpochSampler(5, seed=0), rows_a_step=2, share=lambda step: step / 10)
    >>> [(int(key), key.share) for key in sampler]
    [(3, 0.0), (0, 0.0), (1, 0.1), (4, 0.1), (2, 0.2)]
    >>> sampler.set_epoch(1)
    >>> [(int(key), key.share) for key in sampler]
    [(5, 0.3), (7, 0.3), (6, 0.4), (8, 0.4), (9, 0.5)]
    """

    def __init__(self, keys: EpochSampler, rows_a_step: int, share: Callable[[int], float]) -> None:
        self.keys, self.rows_a_step, self.share = keys, rows_a_step, share

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.keys.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[ScheduledKey]:
        first = self.keys.epoch * -(-len(self.keys) // self.rows_a_step)
        for place, key in enumerate(self.keys):
            yield ScheduledKey(key, self.share(first + place // self.rows_a_step))


class ScheduledRows(torch.utils.data.Dataset[Any]):
    """Rows by ScheduledKeys, each with the share of its key as `mlm_probability`.

    Raises: ValueError, when it is read, for a row that has a share of its own.

    >>> rows = ScheduledRows([{"input_ids": [101, 102]}])
    >>> rows[ScheduledKey(0, 0.3)]
    {'input_ids': [101, 102], 'mlm_probability': 0.3}
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        return self._with_share(self.rows[key], key)

    def __getitems__(self, keys: Sequence[Any]) -> list[Any]:
        """Return the rows of a batch at once."""
        return [self._with_share(row, key) for row, key in zip(self.rows.__getitems__(keys), keys, strict=True)]

    def share_of(self, key: Any) -> float:
        """Return the share of a row's tokens to mask."""
        return cast(ScheduledKey, key).share

    def _with_share(self, row: Mapping[str, Any] | None, key: Any) -> dict[str, Any] | None:
        if row is None:
            return None
        if SHARE in row:
            raise ValueError(
                f"{SHARE}: received a row with {row[SHARE]!r}, and args.mlm_probability_schedule. Accepted: one of "
                "them, since both say how much of the row is masked. Remove the column: "
                f'dataset.remove_columns("{SHARE}"), or leave out the schedule.'
            )
        return {**row, SHARE: self.share_of(key)}


class ScheduledPlaces(ScheduledRows):
    """ScheduledRows by plain numbers, of which `step_of` returns the step of the run and `share` its share.

    >>> rows = ScheduledPlaces([{}] * 4, step_of=lambda place: place // 2, share=lambda step: (0.3, 0.15)[step])
    >>> [rows[place] for place in range(4)]
    [{'mlm_probability': 0.3}, {'mlm_probability': 0.3}, {'mlm_probability': 0.15}, {'mlm_probability': 0.15}]
    """

    def __init__(self, rows: Any, step_of: Callable[[int], int], share: Callable[[int], float]) -> None:
        super().__init__(rows)
        self.step_of, self.share = step_of, share

    def share_of(self, key: int) -> float:
        """Return the share of a row's tokens to mask."""
        return self.share(self.step_of(key))


def require_schedulable(args: MLMConfig, collator: Any, rows: Any) -> None:
    """Raise ValueError if the share of `args` cannot change, since the rows or the collator decide on their masks."""
    schedule = f"mlm_probability_schedule: received {args.mlm_probability_schedule!r} with"
    if not isinstance(collator, DataCollatorForMaskedLM):
        raise ValueError(
            f"{schedule} your data_collator, {type(collator).__name__}. Accepted: DataCollatorForMaskedLM, which masks "
            "the share that each row brings. Leave data_collator out, or the schedule."
        )
    if collator.mlm_probability != args.mlm_probability:
        raise ValueError(
            f"{schedule} mlm_probability {args.mlm_probability} in args and {collator.mlm_probability} in your "
            "data_collator. Accepted: the same, the share of the first step. Give both the same value, or leave "
            "data_collator out."
        )
    if collator.static_masks:
        raise ValueError(
            f"{schedule} a data_collator that has static_masks. Accepted: masks that change, since static ones are "
            "drawn once. Leave one of them out."
        )
    if rows.labelled if isinstance(rows, RowStream) else not isinstance(rows, TextStream) and has_labels(rows):
        raise ValueError(
            f"{schedule} rows that bring labels. Accepted: rows without labels, since those were masked beforehand. "
            "Remove the column, or leave out the schedule."
        )
