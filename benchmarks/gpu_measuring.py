"""Measures one row of benchmarks/gpu.py: a run of its trainer, and the same steps in a bare loop."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from gpu_calls import CallCounter
from gpu_cases import Batches, Case, make_model, text_of
from gpu_rows import Row, collated, make_trainer
from gpu_timing import Stopwatch, synchronize, time_loop
from torch._dynamo.utils import counters
from transformers import TrainerCallback
from workload import masked_tokens, model_flops

from mlm_recipes.masking.collator import DataCollatorForMaskedLM
from mlm_recipes.training.trainer import MLMTrainer

#: Loggers whose warnings a row records: a fast path that is off says why.
_LOGGERS = ("mlm_recipes", "torch._dynamo")


class TookTooLong(BaseException):
    """A row is past its time. Not an Exception, so that no fallback mistakes it for a failure of its own."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong after so many seconds."""

    def stop(*_: Any) -> None:
        raise TookTooLong(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def recorded_messages() -> Iterator[list[str]]:
    """Record what is logged and printed, apart from the progress of training, instead of showing it."""
    found: list[str] = []
    printed = io.StringIO()
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.propagate = False
    loggers[0].setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(printed):
            yield found
    finally:
        for each, (level, propagate) in zip(loggers, before, strict=True):
            each.removeHandler(handler)
            each.setLevel(level)
            each.propagate = propagate
        found += [line for line in printed.getvalue().splitlines() if not line.startswith(("epoch ", "{"))]


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Undo what a trainer changes for the whole process.

    With torch_compile, transformers sets environment variables, from which accelerate would compile the later rows too,
    and turns TF32 on. With full_determinism, it turns deterministic algorithms on.
    """
    precision = torch.backends.fp32_precision
    with mock.patch.dict(os.environ):
        try:
            yield
        finally:
            torch.backends.fp32_precision = precision
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.deterministic = False


def guarded(measured: Callable[[dict[str, Any]], None], device: torch.device, seconds: float) -> dict[str, Any]:
    """Return what `measured` finds, or `error` if it fails or takes longer than so many seconds; free its memory."""
    found: dict[str, Any] = {}
    try:
        with time_limit(seconds), left_as_found(), recorded_messages() as found["said"]:
            measured(found)
    except (Exception, TookTooLong) as error:  # whatever goes wrong in one row, the others are measured
        found["error"] = " ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    # Not before the exception is gone, whose traceback holds the model.
    gc.collect()
    torch.compiler.reset()
    counters.clear()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def measure(row: Row, case: Case, device: torch.device, seconds: float) -> dict[str, Any]:
    """Return what a row takes; see `guarded`."""
    measured = _tutorial if row.whose == "tutorial" else _trainer
    return guarded(lambda found: measured(row, case, device, found), device, seconds)


def count_calls(row: Row, case: Case, device: torch.device, seconds: float) -> dict[str, Any]:
    """Return what a row's steps ask of CUDA; see `guarded` and `gpu_calls`."""

    def measured(found: dict[str, Any]) -> None:
        counter = CallCounter(case.warm_up, device)
        with _made(row, case, device, counter, case.warm_up + CallCounter.AFTER) as (trainer, _):
            trainer.train()
        found |= counter.calls

    return guarded(measured, device, seconds)


@contextlib.contextmanager
def _made(
    row: Row, case: Case, device: torch.device, callback: TrainerCallback, steps: int
) -> Iterator[tuple[Any, Batches]]:
    """Provide the row's trainer for so many steps, and their batches."""
    tokenizer, rows = text_of(case.length, case.model)
    batches = case.batches(rows, row.grouped, steps)
    with tempfile.TemporaryDirectory() as folder:
        yield make_trainer(row, case, make_model(case.model, device), tokenizer, batches, folder, callback), batches


def _trainer(row: Row, case: Case, device: torch.device, found: dict[str, Any]) -> None:
    before = _start_counting_memory(device)
    stopwatch = Stopwatch(case, device)

    def finish() -> None:
        timed = [batches[case.warm_up + i * case.window :][: case.window] for i in range(case.windows)]
        found.update(stopwatch.times() | _work(trainer.model, timed))
        found["peak_memory_bytes"] = stopwatch.peak_bytes - before
        found["waits"] = stopwatch.waits
        found["compiler"] = {
            "graphs": counters["stats"]["unique_graphs"],
            "cache_hits": counters["inductor"]["fxgraph_cache_hit"],
            "cache_misses": counters["inductor"]["fxgraph_cache_miss"],
        }
        if row.bare:
            found["bare"] = _bare(trainer, case, case.typical_batches(text_of(case.length, case.model)[1]))

    try:
        with _made(row, case, device, stopwatch, case.steps + Stopwatch.AFTER) as (trainer, batches):
            stopwatch.then = finish
            stopwatch.start()
            trainer.train()
    finally:
        stopwatch.close()


def _start_counting_memory(device: torch.device) -> int:
    """Forget the highest memory so far, and return what is allocated now."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _bare(trainer: Any, case: Case, batches: Batches) -> dict[str, Any]:
    """Take steps without a Trainer's loop: forward, backward, clipping and update on batches that wait on the GPU."""
    model, parameters = trainer.model_wrapped, list(trainer.model.parameters())
    given = collated(trainer, batches)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    model.train()

    def passes(inputs: dict[str, Any], count: Any) -> None:
        if isinstance(trainer, MLMTrainer):  # which may replay them
            trainer.passes(model, inputs, count)
        else:
            trainer.compute_loss(model, inputs, num_items_in_batch=count).backward()

    def step(number: int) -> None:
        inputs, count = given[number % len(given)]
        passes(dict(inputs), count)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    times = time_loop(step, case, parameters[0].device, max(case.warm_up // 2, len(given)))
    return times | _work(trainer.model, _cycled(case, batches))


def _tutorial(row: Row, case: Case, device: torch.device, found: dict[str, Any]) -> None:
    """Take the tutorial's steps: float32, every row padded to the full length, a loss at every position."""
    before = _start_counting_memory(device)
    case = replace(case, warm_up=1, window=3, windows=1)
    tokenizer, rows = text_of(case.length, case.model)
    batches = case.typical_batches(rows)
    model = make_model(case.model, device)
    collate = DataCollatorForMaskedLM(
        tokenizer, static_masks=True, padding="max_length", max_length=case.length, loss_on="all"
    )
    given = [collate([{"input_ids": ids, "example_id": i} for i, ids in enumerate(batch)]) for batch in batches]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)

    def step(number: int) -> None:
        optimizer.zero_grad()
        loss = model(**{name: value.to(device) for name, value in given[number % len(given)].items()}).loss
        loss.backward()
        optimizer.step()
        loss.item()  # for its progress bar

    found |= time_loop(step, case, device, case.warm_up) | _work(model, _cycled(case, batches))
    found["peak_memory_bytes"] = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else 0


def _cycled(case: Case, batches: Batches) -> list[Batches]:
    return [[batches[i % len(batches)] for i in range(case.window)]] * case.windows


def _work(model: Any, windows: list[Batches]) -> dict[str, Any]:
    """Return the steps of a window, and for each one its real tokens and what the model has to compute."""
    lengths = [[[len(ids) for ids in batch] for batch in window] for window in windows]
    return {
        "steps": len(windows[0]),
        "window_tokens": [sum(map(sum, window)) for window in lengths],
        "window_flops": [sum(model_flops(model, each, masked_tokens(each)) for each in window) for window in lengths],
    }


def matrix_rate(device: torch.device, size: int) -> float:
    """Return the floating-point operations a second of a product of two square bf16 matrices of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    warm = synchronize(device) + (0.2 if device.type == "cuda" else 0)  # a GPU that was idle raises its clock
    while True:
        a @ b
        if (began := synchronize(device)) > warm:
            break
    for _ in range(10):
        a @ b
    return 20.0 * size**3 / (synchronize(device) - began)
