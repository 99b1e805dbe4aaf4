"""A loss or gradient that is not finite: detected before the update, in every process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


def poison_nonfinite(loss: torch.Tensor) -> torch.Tensor:
    """Return the loss, changed so that a NaN or infinite loss makes every gradient NaN.

    Otherwise an infinite loss can have finite gradients. With this change it is enough to check the gradient norm,
    which is computed anyway. Processes add up their gradients, so all of them see it without further communication.

    >>> weight = torch.tensor([2.0, 3.0], requires_grad=True)
    >>> poison_nonfinite((weight * 4).sum()).backward()
    >>> weight.grad.tolist()
    [4.0, 4.0]
    >>> poison_nonfinite((weight * 4).sum() + torch.inf).backward()
    >>> weight.grad.tolist()
    [nan, nan]
    """
    finite = 1 + (loss - loss).detach()  # 1, or NaN
    return loss * finite


class SkippedSteps(TrainerCallback, ExportableState):
    """The numbers of the steps whose update was skipped; each checkpoint stores them."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"args": {}, "attributes": {"steps": self.steps}}

    @classmethod
    def saved_in(cls, checkpoint: Path) -> list[int]:
        """Return the steps that had been skipped when a checkpoint was saved."""
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        saved = state["stateful_callbacks"].get(cls.__name__)
        return list(saved["attributes"]["steps"]) if saved else []


def refusal(
    step: int, learning_rate: float, found: list[str], norm: float, checkpoint: Path | None, skipped: list[int]
) -> str:
    """Return the error message for a run that stops at a step that is not finite.

    `found` describes each micro-batch with a loss that is not finite; it is empty if only the gradient is not finite.
    `checkpoint` is the newest, `skipped` the steps skipped before, if the limit is reached.

    >>> bad = ["nan in process 1 (example_id 3, 8)"]
    >>> print(refusal(7, 1e-3, bad, float("nan"), Path("runs/a/checkpoint-5"), []))
    train: at step 7 (learning rate 0.001) the loss is not finite: nan in process 1 (example_id 3, 8). The update was \
not made: the weights are those after step 6, and the newest checkpoint is runs/a/checkpoint-5. Accepted: a finite \
loss and gradient. Check these paragraphs; resume from there with a lower --learning_rate and --change_on_resume \
learning_rate, or skip such steps: --on_nonfinite skip.
    """
    what = (
        f"the loss is not finite: {'; '.join(found)}" if found else f"the gradient's norm is {norm}, with finite losses"
    )
    kept = "no checkpoint has been saved yet" if checkpoint is None else f"the newest checkpoint is {checkpoint}"
    before = f" (as at these steps, which were skipped: {', '.join(map(str, skipped))})" if skipped else ""
    start = "start again" if checkpoint is None else "resume from there"
    lower = "a lower --learning_rate" + ("" if checkpoint is None else " and --change_on_resume learning_rate")
    more = "skip more such steps: --max_skipped_steps" if skipped else "skip such steps: --on_nonfinite skip"
    return (
        f"train: at step {step} (learning rate {learning_rate:g}) {what}{before}. The update was not made: the weights "
        f"are those after step {step - 1}, and {kept}. Accepted: a finite loss and gradient. Check these paragraphs; "
        f"{start} with {lower}, or {more}."
    )
