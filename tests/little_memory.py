"""A model whose memory holds only so many rows; and what tests/test_out_of_memory.py runs in two processes."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from conftest import make_model
from same_run import PROPORTIONAL_STEPS, flat_weights

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer
from mlm_recipes.masking.batch_layout import count_examples
from mlm_recipes.training.distributed.gradient_exchange import GradientExchange
from mlm_recipes.training.distributed.processes import leave_process_group

#: Of each layout: the architecture, and what differs in its config.
LAYOUTS = {
    "padded": ("bert", {"padding_free": False, "sparse_prediction": False}),
    "padding-free": ("bert", {"sparse_prediction": False}),
    "padding-free and sparse": ("modernbert", {}),
    "parts of like length": ("mpnet", {}),
}

STEPS = 3
UNUSED = Path(tempfile.gettempdir()) / "unused"

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.9 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you ..."),
    RuntimeError("could not create a primitive"),
)


@dataclass
class LittleMemory:
    """Raise what torch does, from a micro-batch of step `since` on, in a middle layer, for more than `rows` rows."""

    rows: int
    since: int = 0
    where: str = "forward"
    micro_batch: int = 0
    errors: tuple[Exception, ...] = ERRORS
    failures: int = 0
    seen: int = 0
    too_large: bool = False
    trainer: Any = field(default=None, repr=False)

    def watch(self, trainer: Any) -> None:
        self.trainer, compute_loss = trainer, trainer.compute_loss

        def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            step = trainer.state.global_step
            self.seen += step == self.since
            begun = step > self.since or self.seen > self.micro_batch
            self.too_large = begun and count_examples(inputs) > self.rows
            return compute_loss(model, inputs, *args, **kwargs)

        trainer.compute_loss = counted
        layers = next(each for each in trainer.model.modules() if isinstance(each, torch.nn.ModuleList))
        layers[0].register_forward_hook(self._forward)

    def _forward(self, layer: Any, args: Any, output: Any) -> None:
        if not layer.training or not self.too_large:
            return
        if self.where == "forward":
            self._fail()
        hidden = output[0] if isinstance(output, tuple) else output
        hidden.register_hook(self._fail)

    def _fail(self, gradient: Any = None) -> None:
        self.failures += 1
        error = self.errors[self.failures % len(self.errors)]
        raise type(error)(*error.args)


@dataclass
class Run:
    trainer: Any
    logged: list[tuple[float, float]]
    weights: torch.Tensor


def layout(steps: int) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": 8 // steps,
        "gradient_accumulation_steps": steps,
        "ddp_find_unused_parameters": False,
    }


def results(run: Run) -> dict[str, Any]:
    return {"logged": run.logged, "weights": run.weights, "parts": run.trainer.micro_batch_parts}


def train(rows: Any, tokenizer: Any, name: str, memory: Any = None, **changes: Any) -> Run:
    dropout = changes.pop("dropout", 0.0)
    bucket = changes.pop("bucket", None)
    ours = {key: changes.pop(key) for key in ("compute_loss_func", "callbacks") if key in changes}
    architecture, values = LAYOUTS[name]
    args = MLMConfig(
        **{
            "per_device_train_batch_size": 16, "max_steps": STEPS, "seed": 1, "save_strategy": "no",
            "output_dir": str(UNUSED), "disable_tqdm": True, **PROPORTIONAL_STEPS,
        } | values | changes,
    )  # fmt: skip
    args.ddp_bucket_cap_mb = bucket
    model = make_model(architecture, tokenizer, dropout=dropout)
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, **ours)
    if memory is not None:
        memory.watch(trainer)
    trainer.train(resume_from_checkpoint=changes.get("resume_from_checkpoint"))
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    return Run(trainer, logged, flat_weights(model))


#: Of each: the process that fails (two: both), where, in which step and micro-batch; and the config.
CASES = {
    "forward": ((1, "forward", 0, 0), {}),
    "forward, of the last micro-batch": ((0, "forward", 1, 1), {"gradient_accumulation_steps": 2}),
    "forward, of the first micro-batch": ((1, "forward", 1, 0), {"gradient_accumulation_steps": 2}),
    "backward": ((0, "backward", 1, 0), {}),
    "backward, of the last micro-batch": ((1, "backward", 1, 1), {"gradient_accumulation_steps": 2}),
    "backward, parameters may be unused": ((1, "backward", 1, 0), {"ddp_find_unused_parameters": True}),
    "backward, in both": ((2, "backward", 1, 0), {}),
}


def make_rows(tokenizer: Any) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    return [
        {"input_ids": [101, *torch.randint(104, len(tokenizer), (n,), generator=generator).tolist(), 102]}
        for n in torch.randint(1, 30, (44,), generator=generator).tolist()
    ]


def two_tokenizer() -> Any:
    """The tokenizer of the runs in two processes."""
    return train_tokenizer(["to be or not to be, that is the question"] * 2, vocab_size=300)


def in_two_processes(folder: Path) -> None:
    rank = int(torch.distributed.get_rank())
    tokenizer = two_tokenizer()
    rows = make_rows(tokenizer)
    sent: list[tuple[int, int]] = []
    finish = GradientExchange.finish

    def observed(exchange: Any) -> None:
        sent.append((len(exchange._sent), len(exchange.ddp.reducer._get_zeros_like_grad_buckets())))
        finish(exchange)

    found: dict[str, Any] = {}
    # Injected as it is, nothing needs to be freed.
    with (
        mock.patch.object(GradientExchange, "finish", observed),
        mock.patch("mlm_recipes.training.faults.out_of_memory.clear_device_cache"),
    ):
        for steps in (1, 2):
            found[steps] = results(train(rows, tokenizer, "padding-free", bucket=0.01, **layout(steps)))
        for name, ((who, where, since, micro_batch), changes) in CASES.items():
            values = layout(changes.get("gradient_accumulation_steps", 1)) | changes
            sent.clear()
            memory = LittleMemory(2, since, where, micro_batch) if who in (rank, 2) else None
            run = train(rows, tokenizer, "padding-free", memory, bucket=0.01, **values)
            found[name] = results(run) | {"sent": list(sent)}
        try:
            train(rows, tokenizer, "padding-free", LittleMemory(0) if rank else None, **layout(1))
        except MemoryError as error:
            found["error"] = str(error)
    torch.save(found, folder / f"found-{rank}.pt")


if __name__ == "__main__":
    MLMConfig(output_dir=str(UNUSED))  # joins the process group
    in_two_processes(Path(sys.argv[1]))
    leave_process_group()
