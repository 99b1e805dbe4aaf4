"""`plan` says what pretraining on one or many GPUs will take: operations, time, memory, checkpoints, and cost.

Everything here is arithmetic on what is asked and assumed; nothing is measured, and no GPU is needed. Each line of the
result says what it assumes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...report.terminal import table, wrapped
from .accelerators import find_accelerator
from .cluster_request import ClusterRequest
from .memory import USABLE, GpuMemory, activation_bytes, memory_by_strategy
from .model_shape import BERT_VOCABULARY, ModelShape, shape_of_model, typical_shape
from .plan_lines import Line, computing_lines, keeping_lines


@dataclass(frozen=True)
class ClusterPlan:
    """The result of `plan_cluster`.

    Attributes:
        request: what was asked.
        shape: the model's sizes.
        lines: what training takes, in the order in which it is shown.
        memory: the memory of a GPU, for each way to spread the model.
        row_bytes: the activations of one row, in bytes.
    """

    request: ClusterRequest
    shape: ModelShape
    lines: list[Line]
    memory: list[GpuMemory]
    row_bytes: float

    def __getitem__(self, name: str) -> float:
        """Return the value of a line, in its unit."""
        (found,) = [line.value for line in self.lines if line.name == name]
        assert found is not None, name
        return found

    def largest_batch(self, memory: GpuMemory) -> int:
        """Return the most rows in a micro-batch that fit; 0 if the model alone does not."""
        free = USABLE * find_accelerator(self.request.gpu).memory - (memory.total - memory.activations)
        return max(0, int(free // self.row_bytes))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values: `request`, `model`, `lines` and `memory`; bytes, seconds and tokens."""
        memory = [
            asdict(each) | {"total": each.total, "largest_batch": self.largest_batch(each)} for each in self.memory
        ]
        return {
            "request": asdict(self.request),
            "model": asdict(self.shape) | {"layers": self.shape.layers},
            "lines": [asdict(line) for line in self.lines],
            "memory": memory,
        }

    def __str__(self) -> str:
        parts = table([("", "", "assuming"), *((line.name, line.shown, line.assumes) for line in self.lines)])
        columns = ("weights", "gradients", "optimizer", "working", "activations", "all", "largest batch")
        gigabytes: list[tuple[str, ...]] = [("GB on each GPU", *columns)]
        for each in self.memory:
            held = (each.weights, each.gradients, each.optimizer, each.working, each.activations, each.total)
            cells = tuple(f"{number / 1e9:.1f}" for number in held)
            gigabytes.append((each.strategy, *cells, str(self.largest_batch(each) or "none")))
        accelerator, rows = find_accelerator(self.request.gpu), self.request.per_device_train_batch_size
        kept = f"{'16-bit' if self.request.bf16_residual else 'float32'} residual stream"
        kept += ", only the inputs of layers kept" if self.request.gradient_checkpointing else ""
        notes = [
            f"Activations: {rows} rows of {self.request.max_length} tokens, flash attention, {kept}. Largest batch: "
            f"rows a GPU that fill {USABLE:.0%} of its {accelerator.memory / 1e9:.0f} GB.",
            *(f"{each.strategy}: {each.assumes}." for each in self.memory),
        ]
        return "\n\n".join([parts, table(gigabytes, right=range(1, 8)), "\n".join(wrapped(note) for note in notes)])


def plan_cluster(request: ClusterRequest) -> ClusterPlan:
    """Return what a run will take: operations, time, memory, checkpoints and cost.

    Raises: ValueError for a GPU that is not in the table, or a model without a config that has its sizes.

    >>> plan = plan_cluster(ClusterRequest(tokens=2e9, gpus=8, params=110e6))
    >>> round(plan["time"] / 60), round(plan["steps"]), [each.strategy for each in plan.memory]
    (10, 15259, ['DDP', 'FSDP2 kept', 'FSDP2'])
    """
    accelerator = find_accelerator(request.gpu)
    if request.model is not None:
        shape = shape_of_model(request.model, request.trust_remote_code)
    else:
        assert request.params is not None  # ClusterRequest has asked
        shape = typical_shape(request.params, request.vocab_size or BERT_VOCABULARY)
    row = activation_bytes(
        shape, request.max_length, request.predicted, request.bf16_residual, request.gradient_checkpointing
    )
    lines = computing_lines(request, shape, accelerator)
    lines += keeping_lines(request, shape, {line.name: line.value for line in lines})
    memory = memory_by_strategy(shape, request.gpus, request.muon, row * request.per_device_train_batch_size)
    return ClusterPlan(request, shape, lines, memory, row)
