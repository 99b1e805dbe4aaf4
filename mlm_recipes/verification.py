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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import report, run_folder
from .config import MLMConfig, read_config
from .dataset import RowsOfEpoch
from .evaluation import masked_lm_metrics
from .model import max_positions
from .prepare import Run, prepare
from .progress import TrainingProgress
from .sampler import NO_EXAMPLE, EpochSampler
from .trainer import MLMTrainer

logger = logging.getLogger(__name__)

# Small enough for a large model on a laptop. Ten examples in steps of four: 4, 4, 2, and the next epoch's first four.
_EXAMPLES, _BATCH, _STEPS, _KILLED_AFTER, _LENGTH = 10, 4, 4, 2, 64


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
        table = report.table([("property", "difference", "bound", ""), *rows], right=range(1, 3))
        return f"{table}\n\n{last} {len(rows)} properties in {self.seconds:.0f} s."


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
    with tempfile.TemporaryDirectory(prefix="mlm-recipes-verify-") as folder:
        config = _small(config, Path(folder))
        run = prepare(config)
        run.train_rows = run.train_rows.select(range(min(_EXAMPLES, len(run.train_rows))))
        logger.info(
            "Verifying %s on %d paragraphs of %s, cut to %d tokens, in steps of %d.",
            config.model, len(run.train_rows), run.corpus.facts["name"], run.max_length, _BATCH,
        )  # fmt: skip
        bench = _Bench(run, copy.deepcopy(run.model.state_dict()))
        checks = [*_accumulation(bench), *_padding(bench), *_masks(bench), *_order(bench), *_evaluation(bench)]
        checks += _resume(bench, Path(folder))
    return VerifyResult(checks, time.monotonic() - started)


def _small(config: MLMConfig, folder: Path) -> MLMConfig:
    """Return the recipe, cut down to a few steps in a folder of its own."""
    length = min(_LENGTH, config.max_length or _LENGTH)
    return replace(
        config, output_dir=str(folder), max_length=length, max_steps=_STEPS, per_device_train_batch_size=_BATCH,
        gradient_accumulation_steps=1, save_strategy="no", save_steps=1, save_total_limit=None, eval_strategy="no",
        load_best_model_at_end=False, push_to_hub=False, report_to="none", resume_from_checkpoint=None,
        change_on_resume=None, dataloader_drop_last=False, disable_tqdm=True, logging_steps=1,
    )  # fmt: skip


@dataclass
class _Bench:
    """The run that is verified, and the weights that each training starts from."""

    run: Run
    start: dict[str, torch.Tensor]

    def train(
        self, callbacks: Sequence[TrainerCallback] = (), resume: Path | None = None, **changes: Any
    ) -> tuple[MLMTrainer, torch.Tensor]:
        """Train from the first weights, or from a checkpoint; return the trainer and the weights in one row."""
        self.run.model.load_state_dict(self.start)
        trainer = MLMTrainer(
            self.run.model,
            args=replace(self.run.config, **changes),
            train_dataset=self.run.train_rows,
            eval_dataset=self.run.train_rows,
            processing_class=self.run.tokenizer,
            callbacks=list(callbacks),
        )
        trainer.remove_callback(TrainingProgress)
        trainer.train(resume_from_checkpoint=resume)
        return trainer, torch.cat([weight.detach().float().cpu().flatten() for weight in self.run.model.parameters()])


def _accumulation(bench: _Bench) -> Iterator[Check]:
    """Split a step into micro-batches of one: the loss, and the gradient that reaches the optimizer."""
    found = []
    for batch, accumulation in ((_BATCH, 1), (1, _BATCH)):
        kept = _KeepGradient()
        with _without_dropout(bench.run.model):
            trainer, _ = bench.train(
                [kept], per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=1,
                bf16=False, fp16=False,
            )  # fmt: skip
        assert kept.gradient is not None
        found.append((trainer.state.log_history[0]["loss"], kept.gradient))
    (loss, gradient), (split_loss, split_gradient) = found
    yield Check(f"accumulation, 1 x {_BATCH} or {_BATCH} x 1: loss", _relative(split_loss, loss), 1e-6)
    yield Check("accumulation: gradient", _relative(split_gradient, gradient), 1e-5)


class _KeepGradient(TrainerCallback):
    gradient: torch.Tensor | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        given = [weight.grad for weight in model.parameters() if weight.grad is not None]
        self.gradient = torch.cat([gradient.detach().float().cpu().flatten() for gradient in given])


@contextmanager
def _without_dropout(model: Any) -> Iterator[None]:
    """Keep a model in evaluation mode while it is trained."""
    model.eval()
    model.train = lambda mode=True: model
    try:
        yield
    finally:
        del model.train


def _padding(bench: _Bench) -> Iterator[Check]:
    """Pad a batch further: no padding may be attended to."""
    run = bench.run
    run.model.load_state_dict(bench.start)
    frozen = run.collator().frozen(run.config.evaluation_seed)
    rows = [run.train_rows[i] for i in range(min(_BATCH, len(run.train_rows)))]
    longest = max(len(row["input_ids"]) for row in rows)
    wider = min(longest + 16, max_positions(run.model))
    found = []
    for collator in (replace(frozen, padding="longest"), replace(frozen, padding="max_length", max_length=wider)):
        batch = {name: tensor.to(run.model.device) for name, tensor in collator(rows).items()}
        labels = batch.pop("labels")
        run.model.eval()
        with torch.no_grad():
            found.append(run.model(**batch).logits[labels != -100].cpu())  # (masked, vocab)
    yield Check(f"padding, {wider - longest} tokens more: logits", _relative(found[1], found[0]), 1e-5)


def _masks(bench: _Bench) -> Iterator[Check]:
    """Mask every example alone, in batches, in another order, and in worker processes."""
    rows, collator = bench.run.train_rows, bench.run.collator()
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
    differing = sum(
        alone[key] != found[key] for found in (masks(keys, 4, 0), masks(shuffled, 3, 2)) for key in keys
    )  # fmt: skip
    yield Check("masks by batch, order and worker: examples that differ", differing, 0)
    if not collator.static_masks:
        same = sum(alone[key] == alone[key + len(rows)] for key in range(len(rows)))
        yield Check("masks of two epochs: examples that do not differ", same, max(1, len(rows) // 2))


def _order(bench: _Bench) -> Iterator[Check]:
    """Deal the whole text out to one process, by accumulation, and to two processes."""
    total, batch = bench.run.corpus.facts["train"], 16
    found = []
    for micro, processes in ((batch, 1), (batch // 2, 1), (batch // 2, 2)):
        sampler = EpochSampler(
            total, bench.run.config.seed, global_batch_size=batch, multiple_of=micro * processes if processes > 1 else 1
        )
        keys = np.array(list(sampler))
        steps = [set(keys[i : i + batch].tolist()) - {NO_EXAMPLE} for i in range(0, len(keys), batch)]
        found.append(steps)
    seen = np.bincount([key for step in found[0] for key in step], minlength=total)
    yield Check("order: examples of an epoch that came twice or never", int((seen != 1).sum()), 0)
    differing = sum(steps != found[0] for steps in found[1:])
    yield Check("order by accumulation, processes: layouts that differ", differing, 0)


def _evaluation(bench: _Bench) -> Iterator[Check]:
    """Evaluate twice, and in other batches."""
    run = bench.run
    run.model.load_state_dict(bench.start)
    losses = []
    for batch in (8, 8, 3):
        rows = replace(
            run, validation_rows=run.train_rows, config=replace(run.config, per_device_eval_batch_size=batch)
        )
        losses.append(masked_lm_metrics(run.model, rows.frozen_batches())["loss"])
    yield Check("evaluation, twice: loss", abs(losses[1] - losses[0]), 0)
    yield Check("evaluation, in batches of 8 or of 3: loss", abs(losses[2] - losses[0]), 1e-6 * max(1.0, losses[0]))


def _resume(bench: _Bench, folder: Path) -> Iterator[Check]:
    """Train undisturbed, evaluated after every step, and killed and resumed: the same weights."""
    # On a GPU some sums run in an order of their own: the embeddings' gradient, for one.
    bound = 0.0 if bench.run.model.device.type == "cpu" else 1e-4 * bench.run.config.learning_rate
    _, whole = bench.train()
    _, evaluated = bench.train(eval_strategy="steps", eval_steps=1)
    yield Check("training, evaluated after every step or not: weights", _largest(evaluated, whole), bound)
    run_folder.write_recipe(folder, bench.run.config.to_recipe() | {"use_cpu": bench.run.config.use_cpu})
    code = "import sys; from mlm_recipes.verification import until_killed; until_killed(sys.argv[1])"
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    if killed.returncode != -signal.SIGKILL:
        raise RuntimeError(f"verify: the process that was to be killed ended by itself:\n{killed.stderr[-2000:]}")
    trainer, resumed = bench.train(resume=folder, save_strategy="steps")
    assert trainer.resumed[-1]["step"] == _KILLED_AFTER
    yield Check(
        f"training, killed after step {_KILLED_AFTER} of {_STEPS} and resumed: weights", _largest(resumed, whole), bound
    )


def until_killed(folder: str) -> None:
    """Train the recipe in `folder`, with a checkpoint after every step, until this process kills itself."""
    config = replace(read_config(Path(folder)), output_dir=folder)
    run = prepare(config)
    run.train_rows = run.train_rows.select(range(min(_EXAMPLES, len(run.train_rows))))
    bench = _Bench(run, copy.deepcopy(run.model.state_dict()))
    bench.train([_Kill()], save_strategy="steps")


class _Kill(TrainerCallback):
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == _KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def _figure(number: float) -> str:
    return f"{number:g}" if number % 1 == 0 else f"{number:.1e}"


def _largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def _relative(a: Any, b: Any) -> float:
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return float((a - b).abs().max() / b.abs().max())
