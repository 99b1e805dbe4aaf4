"""A loss or a gradient that is not finite: noticed before the update, in every process alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


def infectious(loss: torch.Tensor) -> torch.Tensor:
    """Return the loss, such that one that is NaN or infinite makes every gradient NaN.

    A loss may be infinite with finite gradients. This one cannot, so that looking at the gradients' norm, which is
    computed anyway, is enough; and the processes, which add up their gradients, see the same without a word more.

    >>> weight = torch.tensor([2.0, 3.0], requires_grad=True)
    >>> infectious((weight * 4).sum()).backward()
    >>> weight.grad.tolist()
    [4.0, 4.0]
    >>> infectious((weight * 4).sum() + torch.inf).backward()
    >>> weight.grad.tolist()
    [nan, nan]
    """
    finite = 1 + (loss - loss).detach()  # 1, or NaN
    return loss * finite


class SkippedSteps(TrainerCallback, ExportableState):
    """The steps whose update was left out; each checkpoint holds their numbers."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def state(self) -> dict[str, Any]:
        """Return what is saved."""
        return {"args": {}, "attributes": {"steps": self.steps}}

    @classmethod
    def saved_in(cls, checkpoint: Path) -> list[int]:
        """Return the steps that had been left out when a checkpoint was saved."""
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        saved = state["stateful_callbacks"].get(cls.__name__)
        return list(saved["attributes"]["steps"]) if saved else []


def refusal(
    step: int, learning_rate: float, found: list[str], norm: float, checkpoint: Path | None, skipped: list[int]
) -> str:
    """Return what to say of a run that stops at a step that cannot be taken.

    `found` says of each micro-batch with a bad loss which it is; none if all losses are finite, and the gradient alone
    is not. `checkpoint` is the newest, `skipped` the steps left out before, as many as may be.

    >>> bad = ["nan in process 1 (example_id 3, 8)"]
    >>> print(refusal(7, 1e-3, bad, float("nan"), Path("runs/a/checkpoint-5"), []))
    train: at step 7 (learning rate 0.001) the loss is not finite: nan in process 1 (example_id 3, 8). The update was \
not made: the weights are those after step 6, and the newest checkpoint is runs/a/checkpoint-5. Accepted: a finite \
loss and gradient. Look at these paragraphs; go on from there with a lower --learning_rate and --change_on_resume \
learning_rate, or leave such steps out: --on_nonfinite skip.
    """
    what = (
        f"the loss is not finite: {'; '.join(found)}" if found else f"the gradient's norm is {norm}, each loss finite"
    )
    kept = "no checkpoint has been saved yet" if checkpoint is None else f"the newest checkpoint is {checkpoint}"
    before = f" (as at the steps before that were left out: {', '.join(map(str, skipped))})" if skipped else ""
    start = "start again" if checkpoint is None else "go on from there"
    lower = "a lower --learning_rate" + ("" if checkpoint is None else " and --change_on_resume learning_rate")
    more = "leave more such steps out: --max_skipped_steps" if skipped else "leave such steps out: --on_nonfinite skip"
    return (
        f"train: at step {step} (learning rate {learning_rate:g}) {what}{before}. The update was not made: the weights "
        f"are those after step {step - 1}, and {kept}. Accepted: a finite loss and gradient. Look at these paragraphs; "
        f"{start} with {lower}, or {more}."
    )
