"""A run of six steps on eight short rows, for the tests of what can happen to a run."""

from __future__ import annotations

import torch
from conftest import make_bert
from transformers import TrainerCallback

from mlm_recipes import MLMConfig, MLMTrainer

STEPS = 6

_GENERATOR = torch.Generator().manual_seed(0)
NUMBERED = [
    {"input_ids": [101, *torch.randint(104, 900, (n,), generator=_GENERATOR).tolist(), 102], "example_id": 70 + i}
    for i, n in enumerate([5, 9, 3, 12, 7, 9, 4, 6])
]


_SAME = object()


def make_trainer(
    tokenizer, rows, folder="run", callback=None, kind=MLMTrainer, eval_rows=_SAME, compute_metrics=None,
    preprocess=None, **changes,
):  # fmt: skip
    values = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-3,
        "seed": 1, "save_steps": 2, "mlm_probability": 0.4, "use_cpu": True,
    }  # fmt: skip
    return kind(
        make_bert(tokenizer), args=MLMConfig(**(values | changes)), train_dataset=rows,
        eval_dataset=rows if eval_rows is _SAME else eval_rows, processing_class=tokenizer,
        callbacks=[callback] if callback else None, compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=preprocess,
    )  # fmt: skip


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


class At(TrainerCallback):
    """Do something within a step."""

    def __init__(self, step, act, event="on_step_begin"):
        self.step, self.act = step, act
        setattr(self, event, self._at)

    def _at(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            self.act(kwargs["model"])
