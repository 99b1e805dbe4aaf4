"""The lines of a plan: a number each, with what it assumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...report.wording import duration
from .accelerators import Accelerator
from .cluster_request import ClusterRequest
from .failures import daly_interval, expected_time, young_interval
from .memory import optimizer_bytes
from .model_shape import ModelShape
from .published_runs import PUBLISHED
from .quantities import shown_quantity


@dataclass(frozen=True)
class Line:
    """A line of a plan: a number with its unit, how it is shown, and what it assumes."""

    name: str
    value: float | None
    unit: str
    shown: str
    assumes: str


def computing_lines(request: ClusterRequest, shape: ModelShape, accelerator: Accelerator) -> list[Line]:
    """Return the lines on operations, time and the exchange of gradients."""
    per_token = shape.operations_per_token(request.max_length, request.predicted)
    operations, peak = request.tokens * per_token, request.gpus * accelerator.peak
    seconds = operations / (request.share * peak)
    steps = max(1, math.ceil(request.tokens / request.step_tokens))
    shares = sorted(run.share for run in PUBLISHED)
    reached = f"published runs of encoders reached {shares[0]:.0%} to {shares[-1]:.0%} of the peak"
    used = {run.gpu for run in PUBLISHED}
    if accelerator.name not in used:
        reached += f", on {' and '.join(sorted(used))}; none that is known here used this GPU"
    head = f"the head on the {request.predicted:.0%} masked" if request.sparse_prediction else "the head on every token"
    slowest, fastest = (operations / (share * peak) for share in (shares[0], shares[-1]))
    batch = f"{request.gpus} GPUs x {request.per_device_train_batch_size} rows"
    size = f"{shown_quantity(shape.parameters)} parameters"
    lines = [
        Line("model", shape.parameters, "parameters", size, shape.described),
        Line(
            "operations", operations, "operations", f"{operations:.2g}",
            f"{shown_quantity(per_token)} a token: six for each weight it passes, {head}, attention within rows of "
            f"{request.max_length}; all {shown_quantity(request.tokens)} tokens are text, not padding",
        ),
        Line(
            "time", seconds, "seconds", _hours(seconds),
            f"{request.share:.0%} of the {accelerator.dtype} peak of {request.gpus} {accelerator.name}, "
            f"{accelerator.peak / 1e12:.0f} TFLOP/s each ({accelerator.source}); without loading and evaluation",
        ),
        Line("time, slowest", slowest, "seconds", _hours(slowest), reached),
        Line("time, fastest", fastest, "seconds", _hours(fastest), "the same"),
        Line(
            "rate", request.tokens / seconds, "tokens a second", f"{shown_quantity(request.tokens / seconds)} tokens/s",
            f"{shown_quantity(request.tokens / seconds / request.gpus)} a GPU; the reading and masking of the text "
            "keep up with it",
        ),
        Line(
            "steps", steps, "steps", f"{steps:,}",
            f"{shown_quantity(request.step_tokens)} tokens in each: {batch} x {request.gradient_accumulation_steps} "
            f"micro-batches; {seconds / steps:.3g} s a step",
        ),
    ]  # fmt: skip
    if request.gpus > 1:
        sent = 2 * (request.gpus - 1) / request.gpus * 4 * shape.parameters
        backward = 2 / 3 * seconds / steps / request.gradient_accumulation_steps
        lines.append(
            Line(
                "exchange", sent, "bytes a step and GPU", f"{sent / 1e9:.2g} GB a step",
                f"DDP's all-reduce of float32 gradients in a ring; it hides behind the last backward pass where each "
                f"GPU sends {sent / backward / 1e9:.2g} GB/s, and otherwise costs time that is not counted here",
            )
        )  # fmt: skip
    return lines


def keeping_lines(request: ClusterRequest, shape: ModelShape, found: Mapping[str, float | None]) -> list[Line]:
    """Return the lines on checkpoints, failures and cost."""
    seconds, steps = found["time"] or 0.0, found["steps"] or 1.0
    nodes = math.ceil(request.gpus / request.gpus_per_node)
    size = 4 * shape.parameters + optimizer_bytes(shape, request.muon)
    save, failure = size / (1e9 * request.save_gb_per_second), 3600 * request.node_failure_hours / nodes
    interval = daly_interval(save, failure)
    every = max(1, round(min(interval, seconds) / (seconds / steps)))
    whole = expected_time(seconds, interval, save, failure, 60 * request.restart_minutes)
    once = "; the run is shorter, so one at its end is enough" if interval >= seconds else ""
    lines = [
        Line(
            "checkpoint", size, "bytes", f"{size / 1e9:.2g} GB",
            f"weights and optimizer state in float32; training stands still for {save:.2g} s while it is written at "
            f"{request.save_gb_per_second:g} GB/s",
        ),
        Line(
            "failures", whole / failure, "failures", _expected(whole / failure),
            f"a node of {request.gpus_per_node} GPUs fails every {request.node_failure_hours:,.0f} h on average, and "
            f"{nodes} {'node has' if nodes == 1 else 'nodes have'} to hold (by default 6.5 failures in a thousand "
            "node-days: Kokolis et al. 2024, arXiv:2410.21680)",
        ),
        Line(
            "save interval", interval, "seconds", _hours(interval),
            f"Daly 2006; Young 1974: {_hours(young_interval(save, failure))}. About --save_steps {every:,}{once}",
        ),
        Line(
            "save_steps", every, "steps", f"{every:,}",
            "that interval in steps; a queue's time limit, or a machine that may be taken back, asks for more",
        ),
        Line(
            "time with failures", whole, "seconds", _hours(whole),
            f"checkpoints at that interval, and {request.restart_minutes:g} minutes for each restart",
        ),
    ]  # fmt: skip
    if request.price is None:
        lines.append(Line("cost", None, "", "unknown", "no price: pass --price, for a GPU and an hour"))
    else:
        cost = request.price * request.gpus * whole / 3600
        lines.append(Line("cost", cost, "as --price", f"{cost:,.2f}", f"{request.price:g} for each of "
                          f"{request.gpus * whole / 3600:,.1f} GPU hours, failures included"))  # fmt: skip
    return lines


def _expected(failures: float) -> str:
    return "fewer than 0.01" if failures < 0.01 else f"{failures:.2g}"


def _hours(seconds: float) -> str:
    """Return a planned time: minutes and seconds below two hours, then hours, and days beside many.

    >>> [_hours(seconds) for seconds in (42, 4100, 40_000, 700_000)]
    ['42.0 s', '1 h 8 min', '11.1 h', '194 h (8.1 days)']
    """
    hours = seconds / 3600
    if hours < 2:
        return duration(seconds)
    return f"{hours:.3g} h" if hours < 48 else f"{hours:,.0f} h ({hours / 24:,.1f} days)"
