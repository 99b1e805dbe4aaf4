"""`OrderedTrainer`: which examples each step reads, as a function of the seed and the step."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Container
from typing import Any, cast

import torch

from ...data.all_ids import read_completely
from ...data.id_limits import IdLimits
from ...data.prepared_rows import PreparedRows
from ...data.rows import NumberedRows
from ...data.rows_of_epoch import AllBut, RowsOfEpoch
from ...data.streams import START, TextStream, TokenRow, blocks
from ...masking.collator import DataCollatorForMaskedLM
from ..batches.example_order import NO_EXAMPLE, EpochSampler, StepSeeds
from ..batches.mixed_order import all_rows, lengths_of, order_of
from ..batches.places import PlaceBatches, Places
from ..batches.rank_loads import RankLoads
from ..batches.scheduled_shares import (
    ScheduledPlaces,
    ScheduledRows,
    ScheduledSampler,
    ScheduledShares,
    require_schedulable,
)
from ..batches.step_batches import StepBatches, are_dealt, require_dealable
from ..batches.streamed_rows import StreamedRows, StreamState
from ..config import MLMConfig
from .guarded_trainer import GuardedTrainer

logger = logging.getLogger(__name__)


class OrderedTrainer(GuardedTrainer, ABC):
    """GuardedTrainer whose examples in each step depend only on the seed and the step, with any number of processes."""

    args: MLMConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._step_seeds = StepSeeds()
        self._stream = StreamState()
        self._stream_start = START
        self._train_loader: Any = None
        self._shares = ScheduledShares()
        #: How evenly the tokens of a step were divided among several processes; None if that was not recorded.
        self.rank_loads: RankLoads | None = None
        self._batches: StepBatches | None = None  # of the last loader, if it deals them itself
        self.add_callback(self._step_seeds)
        self.add_callback(self._shares)
        if isinstance(self.train_dataset, TextStream):
            self.add_callback(self._stream)

    @abstractmethod
    def limits_of(self, rows: str) -> IdLimits:
        """Return which rows the model accepts; `rows` is the data set's name, for messages."""

    @abstractmethod
    def stream_rows(self, texts: list[str]) -> list[TokenRow]:
        """Return the rows of some of a stream's paragraphs."""

    def collate_for_training(self) -> Any:
        """Return the collator of training batches."""
        return self.data_collator

    def plain_columns(self) -> Container[str]:
        """Return which columns of a row are given to a collator that is not this library's.

        A collator of transformers would pass every other column to the model, so it gets those that it or the model
        knows. The caller's own may need any.
        """
        if not str(getattr(self.data_collator, "__module__", "")).startswith("transformers."):
            return AllBut("cut_off", "epoch", "example_id")
        return self.model_columns() | {"special_tokens_mask", "offset_mapping"}

    def model_columns(self) -> frozenset[str]:
        """Return the names of the columns that the model takes, with those of labels."""
        self._set_signature_columns_if_needed()
        names: frozenset[str] = frozenset(self._signature_columns or ())
        # A forward that passes its arguments on does not say which; these do no harm.
        return names if "input_ids" in names else names | {"input_ids", "attention_mask", "token_type_ids", "labels"}

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Return the training batches, in an order that is a function of the seed and the global batch size."""
        if self.train_dataset is None:
            return super().get_train_dataloader()  # which raises the error
        args = self.args
        rows: Any = self.train_dataset
        ours = isinstance(self.data_collator, DataCollatorForMaskedLM)
        self._batches = self.rank_loads = None
        require_dealable(args, self.data_collator)
        if isinstance(rows, TextStream):
            return self._loader(self._streamed(rows, plain=None if ours else self.plain_columns()), None)
        # Other collators support neither epochs nor missing examples; accelerate then repeats some at the end.
        if not ours and isinstance(rows, NumberedRows):
            rows = rows.rows
        self._step_seeds.sampler = self.epoch_sampler(rows, args.world_size if ours else 1)
        if not self._step_seeds.sampler:
            raise ValueError(
                f"dataloader_drop_last: received True, and {len(rows)} rows do not fill one step of "
                f"{self.get_total_train_batch_size(args)}. Accepted: more text, a smaller "
                "--per_device_train_batch_size, or --dataloader_drop_last false."
            )
        # The rest of rows that are slow to get, of which only some were checked before training.
        order, rows = order_of(rows, args), all_rows(rows)
        limits = None if read_completely(rows) else self.limits_of("train_dataset")
        keyed = RowsOfEpoch(rows, None if ours else self.plain_columns(), limits, order)
        sampler = self._step_seeds.sampler
        self._batches = self.step_batches(rows, sampler, args.world_size, args.gradient_accumulation_steps)
        self.rank_loads = None if self._batches is None else self._batches.loads
        return self._loader(keyed, sampler)

    def step_batches(self, rows: Any, sampler: EpochSampler, processes: int, micro_batches: int) -> StepBatches | None:
        """Return who computes which rows of each step; None if they are dealt in their order, without asking."""
        if not are_dealt(rows, self.args, self.data_collator, processes):
            return None
        size = self._train_batch_size if self.args.tokens_per_batch is None else None
        return StepBatches(sampler, processes, micro_batches, size, self.args.balance_lengths)

    def _loader(
        self, rows: torch.utils.data.Dataset[Any], sampler: EpochSampler | None
    ) -> torch.utils.data.DataLoader[Any]:
        """Return batches of `rows` in the sampler's order, or in theirs without one; each process gets its part."""
        args, batches = self.args, self._batches
        keys: torch.utils.data.Sampler[int] | None = sampler
        self._shares.schedule = args.probability_schedule()
        if self._shares.schedule is not None:
            require_schedulable(args, self.data_collator, self.train_dataset)
            if sampler is None or isinstance(sampler, Places):
                places = cast(StreamedRows, rows) if sampler is None else sampler
                rows = ScheduledPlaces(rows, places.step_of, self._shares)
            else:
                keys = ScheduledSampler(sampler, self.get_total_train_batch_size(args), self._shares)
                rows = ScheduledRows(rows)
            if batches is not None:
                batches.share = self._shares
        of_batches: dict[str, Any] = {"batch_size": self._train_batch_size, "sampler": keys}
        if batches is not None:
            of_batches = {"batch_sampler": batches}
        elif isinstance(keys, Places):
            of_batches = {"batch_sampler": PlaceBatches(keys, self._train_batch_size)}
        loader = torch.utils.data.DataLoader(
            rows,
            **of_batches,
            collate_fn=self.collate_for_training(),
            num_workers=args.dataloader_num_workers or 0,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            in_order=args.dataloader_in_order,
            worker_init_fn=self._signals.in_workers,
        )
        self._train_loader = self.accelerator.prepare(loader)
        if self._shares.schedule is not None:
            self._shares.total = self.set_initial_training_values(args, self._train_loader)[-1]
        return self._train_loader

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as GuardedTrainer does, and with a step's loss the share of the tokens that it masked, if it changes."""
        if self._shares.schedule is not None and "learning_rate" in logs:
            logs = logs | {"mlm_probability": self._shares(self.state.global_step - 1)}
        super().log(logs, *args, **kwargs)

    def _streamed(self, stream: TextStream, plain: Container[str] | None) -> StreamedRows:
        """Return the rows of all steps by position: with n rows per step, those of step k start at k * n."""
        args = self.args
        assert isinstance(args, MLMConfig)
        size, seed = args.stream_buffer, args.seed if args.data_seed is None else args.data_seed
        shuffle = str(args.train_sampling_strategy) == "random"
        self._stream.rows_a_step = self.get_total_train_batch_size(args)
        if are_dealt(stream, args, self.data_collator, args.world_size):
            self.rank_loads = RankLoads(args.world_size, args.balance_lengths)
        self._stream.rows = StreamedRows(
            lambda place: blocks(stream, self.stream_rows, size=size, seed=seed, shuffle=shuffle, start=place),
            length=args.max_steps * self._stream.rows_a_step,
            processes=args.world_size,
            known=self._stream_start,
            plain=plain,
            rows_a_step=self._stream.rows_a_step,
            loads=self.rank_loads,
        )
        return self._stream.rows

    def epoch_sampler(self, rows: Any, processes: int) -> EpochSampler:
        """Return the order of `rows`, extended so that each of `processes` takes the same number of batches."""
        args, strategy = self.args, str(self.args.train_sampling_strategy)
        with_lengths = strategy == "group_by_length" or are_dealt(rows, args, self.data_collator, processes)
        of_places = isinstance(rows, PreparedRows)  # order_of says which rows are there
        return (Places if of_places else EpochSampler)(
            len(rows),
            args.seed if args.data_seed is None else args.data_seed,
            strategy="sequential" if of_places else strategy,
            global_batch_size=self.get_total_train_batch_size(args),
            drop_last=args.dataloader_drop_last,
            multiple_of=self._train_batch_size * processes if processes > 1 else 1,
            lengths=lengths_of(rows, args) if with_lengths else None,
            tokens_per_batch=args.tokens_per_batch,
        )

    def get_total_train_batch_size(self, args: Any) -> int:
        """Return the rows of a step over all processes; with `tokens_per_batch`, about how many they are."""
        sampler = self._step_seeds.sampler
        if args.tokens_per_batch is not None and sampler is not None:
            return sampler.global_batch_size
        return super().get_total_train_batch_size(args)

    def examples_of(self, step: int, micro_batch: int) -> str:
        """Return, for a message, which examples a micro-batch of a step, counted from 0, has in this process."""
        args, size = self.args, self._train_batch_size
        accumulation = args.gradient_accumulation_steps
        if isinstance(self.train_dataset, TextStream) or self._step_seeds.sampler is None:
            return super().examples_of(step, micro_batch)
        sampler = self._step_seeds.sampler
        if self._batches is not None:
            return self._named(self._batches.of_process(step, micro_batch, args.process_index))
        batches = -(-len(sampler) // (size * args.world_size))  # per epoch, in each process
        batch = step % -(-batches // accumulation) * accumulation + micro_batch
        first = (batch * args.world_size + args.process_index) * size
        return self._named(list(sampler)[first : first + size])

    def _named(self, keys: list[int]) -> str:
        assert self._step_seeds.sampler is not None
        rows, keys = cast(Any, self.train_dataset), [key for key in keys if key != NO_EXAMPLE]
        places, order = [key % self._step_seeds.sampler.num_examples for key in keys], order_of(rows, self.args)
        if order is not None:
            places, rows = [row for _, row in order(divmod(key, len(order)) for key in keys)], all_rows(rows)
        ids = [rows[place].get("example_id", place) if hasattr(rows[place], "get") else place for place in places]
        shown = ", ".join(str(example) for example in ids[:16])
        return f"example_id {shown}{', ...' if len(ids) > 16 else ''}"
