"""What test_ray_report.py adds to the example of docs/many-machines.md, in the processes that Ray starts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import ray.train
from transformers import TrainerCallback


class Dies(TrainerCallback):
    """Kill the second worker in a step, once; `mark` is the file that says so."""

    def __init__(self, mark: str, step: int) -> None:
        self.mark, self.step = Path(mark), step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 1 and state.global_step == self.step - 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Kept(ray.train.UserCallback):
    """Write into a file what the main worker reported."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        said = metrics[0] | {"checkpoint": checkpoint is not None, "workers": len(metrics)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")
