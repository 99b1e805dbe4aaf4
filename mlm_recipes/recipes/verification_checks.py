"""The properties that `verify` checks: accumulation, fast paths, padding, masks, order and evaluation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.rows_of_epoch import RowsOfEpoch
from ..masking.batch_layout import labelled
from ..masking.probability_schedule import ProbabilitySchedule
from ..model.exact_float32 import exact_float32
from ..model.positions import max_positions
from ..model.rows_of_one_length import row_multiple
from ..training.batches.example_order import NO_EXAMPLE
from ..training.short_run import schedule_values
from .verification_bench import BATCH, Bench


@dataclass(frozen=True)
class Check:
    """One property: its name, the largest difference measured, and the largest one that passes."""

    name: str
    measured: float
    bound: float

    @property
    def ok(self) -> bool:
        """Tell whether the property holds; with a NaN it does not."""
        return self.measured <= self.bound


def accumulation(bench: Bench) -> Iterator[Check]:
    """Compare a step with whole and with split batches: the loss, and the gradient that the optimizer gets."""
    whole, split = _one_step(bench), _one_step(bench, batch=1)
    yield Check(f"accumulation, 1 x {BATCH} or {BATCH} x 1: loss", relative(split[0], whole[0]), bench.loss_bound)
    yield Check("accumulation: gradient", relative(split[1], whole[1]), bench.gradient_bound)


def fast_paths(bench: Bench) -> Iterator[Check]:
    """Compare each fast path that the recipe uses with its plain equivalent."""
    for value, name in (
        ("sparse_prediction", "head on masked positions or on all"),
        ("padding_free", "joined in one row or padded"),
    ):
        if getattr(bench.trainer(), value):
            fast, plain = _one_step(bench), _one_step(bench, **{value: False})
            yield Check(f"{name}: loss", relative(fast[0], plain[0]), bench.loss_bound)
            yield Check(f"{name}: gradient", relative(fast[1], plain[1]), bench.gradient_bound)


def _one_step(bench: Bench, batch: int = BATCH, **changes: Any) -> tuple[float, torch.Tensor]:
    """Return the loss and the gradient of one step with four examples, in micro-batches of `batch`.

    It is computed in float32 without dropout, so that only an error causes a difference, and with enough masks for a
    loss; and not as one of the first steps, if these train only a part of what the others do.
    """
    all_weights: dict[str, Any] = {"head_warmup_steps": 0.0, "train_new_tokens_first": None}
    share = schedule_values(ProbabilitySchedule("constant", (max(0.15, bench.run.config.mlm_probability),)))
    trainer = bench.trainer(
        per_device_train_batch_size=batch, gradient_accumulation_steps=BATCH // batch, max_steps=1, bf16=False,
        fp16=False, **share | all_weights | changes,
    )  # fmt: skip
    kept, model = _KeepGradient(), cast(Any, trainer.model)
    trainer.add_callback(kept)
    model.eval()
    model.train = lambda mode=True: model  # it stays in evaluation mode
    with exact_float32():
        trainer.train(resume_from_checkpoint=False)
    assert kept.gradient is not None
    return next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry), kept.gradient


class _KeepGradient(TrainerCallback):
    gradient: torch.Tensor | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        given = [weight.grad for weight in model.parameters() if weight.grad is not None]
        self.gradient = torch.cat([gradient.detach().float().cpu().flatten() for gradient in given])


def padding(bench: Bench) -> Iterator[Check]:
    """Compare the logits of a batch with and without more padding, which must not be attended to.

    A model whose results depend on padding gets each row as far padded as it is alone, so its rows are compared alone
    and in a batch.
    """
    run, model = bench.run, cast(Any, bench.trainer().model)
    frozen = run.frozen()
    rows = [bench.rows[i] for i in range(min(BATCH, len(bench.rows)))]
    longest = max(len(row["input_ids"]) for row in rows)
    if row_multiple(model) > 1:
        name, layouts = "each row alone or in a batch", [[frozen(rows)], [frozen([row]) for row in rows]]
    else:
        wider = min(longest + 16, max_positions(model))
        whole, more = frozen.changed(padding="longest"), frozen.changed(padding="max_length", max_length=wider)
        name, layouts = f"{wider - longest} more tokens", [[whole(rows)], [more(rows)]]
    found = [torch.cat([_masked_logits(model, batch) for batch in batches]) for batches in layouts]
    yield Check(f"padding, {name}: logits", relative(found[1], found[0]), bench.loss_bound)


def _masked_logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    labels = batch.pop("labels")
    model.eval()
    with torch.no_grad(), exact_float32():
        return cast(torch.Tensor, model(**batch).logits[labelled(labels)].cpu())  # (masked, vocab)


def masks(bench: Bench) -> Iterator[Check]:
    """Compare each example's masks when masked separately, in batches, in a different order, and in workers."""
    rows = bench.rows
    # If nearly no tokens are masked, or nearly all, two epochs may have the same masks by chance.
    probability = min(0.85, max(0.15, bench.run.config.mlm_probability))
    collator = bench.trainer().data_collator.changed(mlm_probability=probability, padding_free=False)
    keys = list(range(2 * len(rows)))  # two epochs

    def masks(order: Sequence[int], batch: int, workers: int) -> dict[int, tuple[list[int], list[int]]]:
        loader = DataLoader(
            RowsOfEpoch(rows), batch_sampler=BatchSampler(order, batch, drop_last=False), collate_fn=collator,
            num_workers=workers,
        )  # fmt: skip
        found, place = {}, iter(order)
        for given in loader:
            for ids, labels, attended in zip(given["input_ids"], given["labels"], given["attention_mask"], strict=True):
                real = attended.bool()
                found[next(place)] = (ids[real].tolist(), labels[real].tolist())
        return found

    alone = masks(keys, 1, 0)
    shuffled = random.Random(0).sample(keys, len(keys))
    differing = sum(alone[key] != found[key] for found in (masks(keys, 4, 0), masks(shuffled, 3, 2)) for key in keys)
    yield Check("masks by batch, order and worker: examples that differ", differing, 0)
    if not collator.static_masks:
        same = sum(alone[key] == alone[key + len(rows)] for key in range(len(rows)))
        yield Check("masks of two epochs: examples that do not differ", same, len(rows) - 1)


def order(bench: Bench) -> Iterator[Check]:
    """Compare the order of the whole text in one process, with accumulation, and in two processes."""
    batch, whole = 16, replace(bench, rows=bench.run.train_rows)

    def steps(batches: Sequence[list[int]], per_step: int) -> list[set[int]]:
        parts = [batches[i : i + per_step] for i in range(0, len(batches), per_step)]
        return [{key for part in step for key in part} - {NO_EXAMPLE} for step in parts]

    found = []
    for micro in (batch, batch // 2):
        trainer = whole.trainer(per_device_train_batch_size=micro, gradient_accumulation_steps=batch // micro)
        batches = list(cast(Any, trainer.get_train_dataloader().batch_sampler))
        found.append(steps(batches, batch // micro))
        seen = Counter(key for part in batches for key in part)
    sampler = trainer.epoch_sampler(whole.rows, processes=2)
    shared: Any = trainer.step_batches(whole.rows, sampler, processes=2, micro_batches=1)
    shared = shared or BatchSampler(sampler, batch // 2, drop_last=False)
    each = [list(BatchSamplerShard(shared, 2, process)) for process in (0, 1)]
    found.append(steps([part for pair in zip(*each, strict=True) for part in pair], 2))
    wrong = len(whole.rows) - sum(times == 1 for times in seen.values())
    yield Check("order: examples that an epoch has twice or never", wrong, 0)
    differing = sum(other != found[0] for other in found[1:])
    yield Check("order by accumulation, processes: layouts that differ", differing, 0)


def evaluation(bench: Bench) -> Iterator[Check]:
    """Compare two evaluations, and one with a different batch size."""
    trainer, other = (bench.trainer(per_device_eval_batch_size=batch) for batch in (8, 3))
    with exact_float32():
        losses = [each.evaluate()["eval_loss"] for each in (trainer, trainer, other)]
    yield Check("evaluation, twice: loss", abs(losses[1] - losses[0]), 0)
    # Below float32, rounding depends on the shape of the batch.
    bound = bench.loss_bound if bench.run.config.mixed_precision == "no" else 1e-2
    yield Check("evaluation, in batches of 8 or of 3: loss", relative(losses[2], losses[0]), bound)


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference between two tensors."""
    return float((a - b).abs().max())


def relative(a: Any, b: Any) -> float:
    """Return the largest difference, relative to the largest value in `b`."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    difference = float((a - b).abs().max())
    return difference / float(b.abs().max()) if difference else 0.0
