"""What test_asked_stop.py runs in two processes: torchrun --nproc_per_node 2 two_askers.py FOLDER.

In the second process alone a callback asks for something, as one with a clock does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from small_run import NUMBERED, make_trainer
from transformers import TrainerCallback

from mlm_recipes import load_tokenizer
from mlm_recipes.training.distributed.processes import leave_process_group

#: What is asked for, in which event, at which step.
ASKED = {
    "stop": ("should_training_stop", "on_step_end", 3),
    "stop-logged": ("should_training_stop", "on_log", 3),
    "stop-evaluated": ("should_training_stop", "on_evaluate", 4),
    "stop-epoch": ("should_training_stop", "on_epoch_end", 4),
    "save": ("should_save", "on_step_end", 3),
    "save-evaluated": ("should_save", "on_evaluate", 4),
    "stop-within": ("should_training_stop", "on_substep_end", 2),
}
VALUES = {"ddp_timeout": 30, "eval_strategy": "steps", "eval_steps": 2, "per_device_train_batch_size": 1}
WITHIN = {"gradient_accumulation_steps": 2, "max_steps": 4}


class Asks(TrainerCallback):
    def __init__(self, what: str, event: str, step: int) -> None:
        self.what, self.step = what, step
        setattr(self, event, self._ask)

    def _ask(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if dist.get_rank() == 1 and state.global_step >= self.step:
            setattr(control, self.what, True)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = {}
    for name, asked in ASKED.items():
        changes = {"save_steps": 50} | (WITHIN if name == "stop-within" else {})
        trainer = make_trainer(load_tokenizer("mini"), NUMBERED, folder / name, **VALUES | changes)
        trainer.add_callback(Asks(*asked))
        found[name] = trainer.train().global_step
    (folder / f"steps-{dist.get_rank()}.json").write_text(json.dumps(found), encoding="utf-8")
    leave_process_group()
