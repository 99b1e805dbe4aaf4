"""The rows of benchmarks/gpu.py: transformers' Trainer as people run it and at its best, and MLMTrainer by switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from gpu_cases import Batches, Case
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

from mlm_recipes.masking.batch_plan import FILLING
from mlm_recipes.training.config import MLMConfig
from mlm_recipes.training.trainer import MLMTrainer

#: What each row of ours adds to the row before it, as far as MLMConfig has it.
SWITCHES = tuple(
    name
    for name in ("sparse_prediction", "padding_free", "torch_compile", "cuda_graphs", "bf16_residual")
    if name in {item.name for item in fields(MLMConfig)}
)


@dataclass(frozen=True, eq=False)
class Row:
    """One way to train; rows with a lower `order` are measured first, in all cases with a target."""

    name: str
    whose: str  # tutorial, peer or ours
    order: int
    values: Mapping[str, Any] = field(default_factory=dict)
    grouped: bool = False
    bare: bool = False  # whether a bare loop takes the same steps too

    @property
    def compiled(self) -> bool:
        """Whether torch.compile is on; such a row takes the longest to warm up."""
        return bool(self.values.get("torch_compile", False))


def _of_ours(count: int, name: str, order: int, **more: Any) -> Row:
    return Row(name, "ours", order, {each: SWITCHES.index(each) < count for each in SWITCHES} | more, bare=True)


_COMPILED = {"torch_compile": True}
#: What people run: random batches, dynamic padding, bf16, fused AdamW; and what the targets are relative to.
PEER = Row("peer: Trainer as people run it", "peer", 0, bare=True)
#: With every switch.
OURS = _of_ours(len(SWITCHES), f"ours + {SWITCHES[-1]}", 0)
_LADDER = [
    _of_ours(count, ("ours: " if count == 1 else "ours + ") + switch, 4 if count == 1 else 1)
    for count, switch in enumerate(SWITCHES[:-1], start=1)
]
_LOGGED_AS_PEER = _of_ours(len(SWITCHES), "ours, logging as the peer", 4, logging_steps=TrainingArguments.logging_steps)
_DETERMINISTIC = _of_ours(len(SWITCHES), "ours, full_determinism", 4, full_determinism=True)
_TUTORIAL = Row("tutorial: padded to the full length, loss on all", "tutorial", 4)
_GROUPED = Row("peer + group_by_length", "peer", 1, grouped=True)
_PADDED_COMPILED = Row("peer + torch_compile", "peer", 4, _COMPILED)
_BOTH = Row("peer + group_by_length + torch_compile", "peer", 2, _COMPILED, grouped=True)
_PACKED_COMPILED = Row("peer + torch_compile", "peer", 2, _COMPILED)

#: When PEER and OURS are measured a second time.
AGAIN = 3

PARAGRAPHS = (_TUTORIAL, PEER, _GROUPED, _PADDED_COMPILED, _BOTH, *_LADDER, OURS, _LOGGED_AS_PEER, _DETERMINISTIC)
#: Packed rows all have the same length, so that they need no grouping.
PACKED = (_TUTORIAL, PEER, _PACKED_COMPILED, *_LADDER, OURS, _LOGGED_AS_PEER, _DETERMINISTIC)


def make_trainer(
    row: Row, case: Case, model: Any, tokenizer: Any, batches: Batches, folder: str, callback: TrainerCallback
) -> Any:
    """Return the row's trainer: nothing is saved or evaluated, and everything else is as by default.

    Each takes the given batches in the given order, so that it is known how many tokens a step has. They are drawn at
    random, as both trainers would; how often a loss is logged is each trainer's own default.
    """
    device = next(model.parameters()).device
    common: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": len(batches),
        "per_device_train_batch_size": case.batch,
        "learning_rate": 1e-5,
        "save_strategy": "no",
        "eval_strategy": "no",
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
        "seed": 1,
        "bf16": device.type == "cuda",
        "use_cpu": device.type == "cpu",
    }
    if row.compiled and device.type == "cpu":
        common["torch_compile_backend"] = "eager"  # traced, but nothing is compiled: to see that the row runs
    ids = [row_ids for batch in batches for row_ids in batch]
    if row.whose == "peer":
        arguments = TrainingArguments(**common, **row.values, report_to="none")
        return Trainer(
            model,
            arguments,
            train_dataset=[{"input_ids": each} for each in ids],
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            callbacks=[callback],
        )
    config = MLMConfig(**common, **row.values, packing=case.packed, max_length=case.length)
    return MLMTrainer(
        model,
        config,
        train_dataset=[{"input_ids": each, "example_id": number} for number, each in enumerate(ids)],
        processing_class=tokenizer,
        callbacks=[callback],
    )


def collated(trainer: Any, batches: Batches) -> list[tuple[dict[str, Any], torch.Tensor | int | None]]:
    """Return batches as the trainer's steps get them, on its device, each with its number of labels."""
    ours, found = isinstance(trainer, MLMTrainer), []
    collate = trainer.collate_for_training() if ours else trainer.data_collator
    for batch in batches:
        rows: Any = [{"input_ids": each} for each in batch]
        if ours:
            rows = [row | {"example_id": number, "epoch": 0} for number, row in enumerate(rows)]
        given, count = trainer.get_batch_samples(iter([collate(rows)]), 1, trainer.args.device)
        inputs = trainer._prepare_inputs(given[0])
        inputs.pop(FILLING, None)  # which only the counter of tokens reads
        found.append((inputs, count))
    return found
