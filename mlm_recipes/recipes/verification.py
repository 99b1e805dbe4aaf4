"""`verify`: what the library promises about its numbers, measured with your own model, text and recipe."""

from __future__ import annotations

import copy
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from torch.utils.data import BatchSampler, DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.rows import RowsOfEpoch
from ..masking.layout import labelled
from ..model.positions import max_positions
from ..model.rounding import rounding_bound, summed_terms
from ..report import terminal, wording
from ..training.config import MLMConfig
from ..training.order import NO_EXAMPLE
from ..training.progress import TrainingProgress
from ..training.short_run import cut_short
from ..training.trainer import MLMTrainer
from . import run_folder
from .arguments import read_config
from .prepare import Run, prepare

logger = logging.getLogger(__name__)

# Small enough for a large model on a laptop. Ten examples in steps of four: 4, 4, 2, and the next epoch's first four.
_EXAMPLES, _BATCH, _STEPS, _KILLED_AFTER, _LENGTH = 10, 4, 4, 2, 64

#: Ends a process without another word; Windows knows no SIGKILL, there SIGTERM does it.
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


@dataclass(frozen=True)
class Check:
    """One property: what was compared, the largest difference found, and the largest that passes."""

    name: str
    measured: float
    bound: float

    @property
    def ok(self) -> bool:
        """Tell whether it holds; a NaN does not."""
        return self.measured <= self.bound


@dataclass(frozen=True)
class VerifyResult:
    """What `verify` returns; `print(result)` shows the table."""

    checks: list[Check]
    seconds: float

    @property
    def ok(self) -> bool:
        """Tell whether every property holds."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        rows = [
            (check.name, _figure(check.measured), _figure(check.bound), "ok" if check.ok else "FAILS")
            for check in self.checks
        ]
        failed = [check.name for check in self.checks if not check.ok]
        last = (
            f"Does not hold: {'; '.join(failed)}. Do not trust this recipe's numbers before that is understood."
            if failed
            else "Everything holds."
        )
        table = terminal.table([("property", "difference", "bound", ""), *rows], right=range(1, 3))
        return f"{table}\n\n{last} {len(rows)} properties in {wording.duration(self.seconds)}."


def verify(recipe: str | Path | MLMConfig | None = None, **overrides: Any) -> VerifyResult:
    """Check, with a recipe's own model and text, that its numbers can be trusted.

    Args:
        recipe, overrides: as for `train`.

    Trains for a few steps on ten of its paragraphs, cut to 64 tokens: with the batch whole and split, with evaluation
    and without, killed (a real process, SIGKILL) and resumed. Leaves nothing behind.

    Raises: as `train`; ValueError in more than one process.
    """
    started = time.monotonic()
    config = read_config(recipe, overrides)
    if config.world_size > 1:
        raise ValueError(
            f"verify: received {config.world_size} processes. Accepted: one; it starts the other that it needs itself. "
            "Run it without torchrun."
        )
    if config.streaming:
        raise ValueError(
            "verify: received streaming True. Accepted: false, on a piece of the text: head -n 1000 big.txt > "
            "piece.txt. Pass --streaming false --corpus piece.txt; the same holds for a stream."
        )
    with tempfile.TemporaryDirectory(prefix="mlm-recipes-verify-") as folder:
        bench = _Bench.of(_small(config, Path(folder)))
        run = bench.run
        logger.info(
            "Verifying %s on %d paragraphs of %s, cut to %d tokens, in steps of %d.",
            config.model, len(bench.rows), run.facts["name"], run.max_length, _BATCH,
        )  # fmt: skip
        checks = [
            *_accumulation(bench),
            *_fast_paths(bench),
            *_padding(bench),
            *_masks(bench),
            *_order(bench),
            *_evaluation(bench),
        ]
        checks += _resume(bench, Path(folder))
    return VerifyResult(checks, time.monotonic() - started)


def _small(config: MLMConfig, folder: Path) -> MLMConfig:
    """Return the recipe, cut down to a few steps of a few short rows, each of them logged."""
    return cut_short(
        config,
        _STEPS,
        output_dir=str(folder),
        max_length=None if (config.max_length or 512) > _LENGTH else config.max_length,
        per_device_train_batch_size=_BATCH,
        gradient_accumulation_steps=1,
        eval_delay=0,
        logging_strategy="steps",
        logging_steps=1,
        save_steps=_KILLED_AFTER,
        save_total_limit=None,
        save_only_model=False,
    )


@dataclass
class _Bench:
    """The run that is verified, on the first few of its rows."""

    run: Run
    rows: Dataset

    @classmethod
    def of(cls, config: MLMConfig) -> _Bench:
        run = prepare(config, default_length=_LENGTH)
        run = replace(run, config=replace(run.config, max_length=run.max_length))
        assert isinstance(run.train_rows, Dataset), "streaming is refused"
        return cls(run, run.train_rows.select(range(min(_EXAMPLES, len(run.train_rows)))))

    @property
    def loss_bound(self) -> float:
        """The largest relative difference between losses, or logits, that float32's rounding explains."""
        return rounding_bound(summed_terms(self.run.model, _BATCH * _LENGTH))

    @property
    def gradient_bound(self) -> float:
        """The same between gradients."""
        return rounding_bound(summed_terms(self.run.model, _BATCH * _LENGTH, passes=3))

    def trainer(self, **changes: Any) -> MLMTrainer:
        """Return a trainer of a copy of the model: accelerate prepares a model once, for one precision."""
        trainer = MLMTrainer(
            copy.deepcopy(self.run.model),
            args=replace(self.run.config, **changes),
            train_dataset=self.rows,
            eval_dataset=self.rows,
            processing_class=self.run.tokenizer,
        )
        trainer.remove_callback(TrainingProgress)
        return trainer

    def train(
        self, resume: Path | None = None, callback: Any = None, **changes: Any
    ) -> tuple[MLMTrainer, torch.Tensor]:
        """Train from the first weights, or from a checkpoint; return the trainer and the weights in one row."""
        trainer = self.trainer(**changes)
        if callback is not None:
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=resume or False)
        return trainer, torch.cat(
            [weight.detach().float().cpu().flatten() for weight in cast(Any, trainer.model).parameters()]
        )


def _accumulation(bench: _Bench) -> Iterator[Check]:
    """Split a step into micro-batches of one: the loss, and the gradient that reaches the optimizer."""
    whole, split = _one_step(bench), _one_step(bench, batch=1)
    yield Check(f"accumulation, 1 x {_BATCH} or {_BATCH} x 1: loss", _relative(split[0], whole[0]), bench.loss_bound)
    yield Check("accumulation: gradient", _relative(split[1], whole[1]), bench.gradient_bound)


def _fast_paths(bench: _Bench) -> Iterator[Check]:
    """Take the plain way too, where the recipe has the fast one."""
    for value, name in (
        ("sparse_prediction", "head on masked positions or on all"),
        ("padding_free", "joined in one row or padded"),
    ):
        if getattr(bench.trainer(), value):
            fast, plain = _one_step(bench), _one_step(bench, **{value: False})
            yield Check(f"{name}: loss", _relative(fast[0], plain[0]), bench.loss_bound)
            yield Check(f"{name}: gradient", _relative(fast[1], plain[1]), bench.gradient_bound)


def _one_step(bench: _Bench, batch: int = _BATCH, **changes: Any) -> tuple[float, torch.Tensor]:
    """Return loss and gradient of one step of four examples, in micro-batches of `batch`.

    In float32 and without dropout, where only a mistake makes a difference; with enough masks for there to be a loss.
    """
    trainer = bench.trainer(
        per_device_train_batch_size=batch, gradient_accumulation_steps=_BATCH // batch, max_steps=1, bf16=False,
        fp16=False, mlm_probability=max(0.15, bench.run.config.mlm_probability), **changes,
    )  # fmt: skip
    kept, model = _KeepGradient(), cast(Any, trainer.model)
    trainer.add_callback(kept)
    model.eval()
    model.train = lambda mode=True: model  # it stays in evaluation mode
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


def _padding(bench: _Bench) -> Iterator[Check]:
    """Pad a batch further: no padding may be attended to."""
    run = bench.run
    frozen = run.collator().frozen(run.config.evaluation_seed)
    rows = [bench.rows[i] for i in range(min(_BATCH, len(bench.rows)))]
    longest = max(len(row["input_ids"]) for row in rows)
    wider = min(longest + 16, max_positions(run.model))
    found = []
    for collator in (replace(frozen, padding="longest"), replace(frozen, padding="max_length", max_length=wider)):
        batch = {name: tensor.to(run.model.device) for name, tensor in collator(rows).items()}
        labels = batch.pop("labels")
        run.model.eval()
        with torch.no_grad():
            found.append(run.model(**batch).logits[labelled(labels)].cpu())  # (masked, vocab)
    yield Check(f"padding, {wider - longest} tokens more: logits", _relative(found[1], found[0]), bench.loss_bound)


def _masks(bench: _Bench) -> Iterator[Check]:
    """Mask every example alone, in batches, in another order, and in worker processes."""
    rows = bench.rows
    # Where nearly nothing is masked, or all, two epochs may well have the same masks.
    probability = min(0.85, max(0.15, bench.run.config.mlm_probability))
    collator = replace(bench.run.collator(), mlm_probability=probability)
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


def _order(bench: _Bench) -> Iterator[Check]:
    """Deal the whole text out to one process, by accumulation, and to two processes."""
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
    shared = BatchSampler(trainer.epoch_sampler(whole.rows, processes=2), batch // 2, drop_last=False)
    each = [list(BatchSamplerShard(shared, 2, process)) for process in (0, 1)]
    found.append(steps([part for pair in zip(*each, strict=True) for part in pair], 2))
    wrong = len(whole.rows) - sum(times == 1 for times in seen.values())
    yield Check("order: examples of an epoch that came twice or never", wrong, 0)
    differing = sum(other != found[0] for other in found[1:])
    yield Check("order by accumulation, processes: layouts that differ", differing, 0)


def _evaluation(bench: _Bench) -> Iterator[Check]:
    """Evaluate twice, and in other batches."""
    trainer, other = (bench.trainer(per_device_eval_batch_size=batch) for batch in (8, 3))
    losses = [each.evaluate()["eval_loss"] for each in (trainer, trainer, other)]
    yield Check("evaluation, twice: loss", abs(losses[1] - losses[0]), 0)
    # Precision below float32 rounds by the shape of the batch.
    bound = bench.loss_bound if bench.run.config.mixed_precision == "no" else 1e-2
    yield Check("evaluation, in batches of 8 or of 3: loss", _relative(losses[2], losses[0]), bound)


def _resume(bench: _Bench, folder: Path) -> Iterator[Check]:
    """Train undisturbed, evaluated after every step, and killed and resumed: the same weights."""
    # On a GPU some sums run in an order of their own (the embeddings' gradient, for one), and Adam makes a whole step
    # of a gradient that is all rounding.
    bound = 0.0 if bench.run.model.device.type == "cpu" else 1e-2 * bench.run.config.learning_rate
    _, whole = bench.train()
    _, evaluated = bench.train(eval_strategy="steps", eval_steps=1)
    yield Check("training, evaluated after every step or not: weights", _largest(evaluated, whole), bound)
    run_folder.write_recipe(folder, bench.run.config.to_recipe() | {"use_cpu": bench.run.config.use_cpu})
    code = "import sys; from mlm_recipes.recipes.verification import until_killed; until_killed(*sys.argv[1:])"
    trusted = bench.run.config.trust_remote_code
    arguments = [str(folder), *([trusted] if trusted else [])]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if killed.returncode not in (-_KILL, _KILL):  # below zero, but on Windows
        raise RuntimeError(f"verify: the process that was to be killed ended by itself:\n{killed.stderr[-2000:]}")
    trainer, resumed = bench.train(resume=folder, save_strategy="steps")
    assert trainer.resumed[-1]["step"] == _KILLED_AFTER
    name = f"training, killed after step {_KILLED_AFTER} of {_STEPS} and resumed: weights"
    yield Check(name, _largest(resumed, whole), bound)


def until_killed(folder: str, trust_remote_code: str | None = None) -> None:
    """Train the recipe in `folder`, with checkpoints, until this process kills itself."""
    bench = _Bench.of(replace(read_config(Path(folder)), output_dir=folder, trust_remote_code=trust_remote_code))
    bench.train(callback=_Kill(), save_strategy="steps")


class _Kill(TrainerCallback):
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == _KILLED_AFTER:
            os.kill(os.getpid(), _KILL)


def _figure(number: float) -> str:
    return f"{number:g}" if number % 1 == 0 else f"{number:.1e}"


def _largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def _relative(a: Any, b: Any) -> float:
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    difference = float((a - b).abs().max())
    return difference / float(b.abs().max()) if difference else 0.0
