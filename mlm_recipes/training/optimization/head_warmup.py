"""Trains only a new head in a run's first steps, so that its random values do not spoil what the model knows."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ...masking.share_of_steps import share_of_steps
from ...report.frozen_parts import head_first

logger = logging.getLogger(__name__)

#: With `auto`, the share of the steps in which only a new head is trained.
AUTO_SHARE = 0.1


def warmup_steps(asked: float | str, head_is_new: bool, steps: int) -> int:
    """Return in how many of a run's steps only the head is trained.

    Args:
        asked: a number, below 1 a share of the steps, or `auto`.
        head_is_new: whether weights of the head are missing from the model's checkpoint, for `auto`.
        steps: those of the run.

    >>> warmup_steps("auto", True, 130), warmup_steps("auto", False, 130), warmup_steps(0.5, False, 9)
    (13, 0, 5)
    """
    share = (AUTO_SHARE if head_is_new else 0.0) if isinstance(asked, str) else asked
    return min(steps, share_of_steps(share, steps) if share < 1 else int(share))


def head_weights(names: Iterable[str], model: Any) -> list[str]:
    """Return those of a model's weights that are not of its body.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> head_weights(["bert.embeddings.LayerNorm.bias", "cls.predictions.bias"], model)
    ['cls.predictions.bias']
    """
    body = {id(weight) for weight in model.base_model.parameters()}
    return [name for name, weight in model.named_parameters() if name in set(names) and id(weight) not in body]


class HeadWarmUp(TrainerCallback, ExportableState):
    """Freeze all but the head in a run's first steps: linear probing, then fine-tuning (Kumar et al. 2022).

    In these steps nothing is computed backward through the body, the gradient's norm is the head's, and the optimizer
    neither changes the body nor has a state for it. Whether a step is one of them depends on its number, so a run that
    is resumed continues as it would have. Once the body learns, it is not frozen again: checkpoints have the
    number of these steps, since a share of more steps would be more. The paper (arXiv:2202.10054) explains why:
    gradients of a random head distort the features below it.

    With several processes, DDP searches for the parameters without a gradient in each step of the run.

    Args:
        model: before DDP wraps it. A head's matrix that is the embeddings' belongs to the body.
        asked: the config's `head_warmup_steps`.
        head_is_new: whether weights of the head are missing from the model's checkpoint.

    Raises: ValueError for a model that does not tell its head from the rest.
    """

    def __init__(self, model: Any, asked: float | str, head_is_new: bool) -> None:
        if model.base_model is model:
            raise ValueError(
                f"head_warmup_steps: received {asked!r}, and {type(model).__name__} does not tell its head from the "
                "rest. Accepted: 0 for this model. Leave it out."
            )
        self._asked, self._head_is_new = asked, head_is_new
        self._body = [weight for weight in model.base_model.parameters() if weight.requires_grad]
        #: In how many steps of the run only the head was trained; None if a checkpoint does not say.
        self.head_steps: int | None = None

    def steps_of(self, state: TrainerState) -> int:
        """Return the number of steps in which only the head is trained."""
        planned, done = warmup_steps(self._asked, self._head_is_new, state.max_steps), self.head_steps or 0
        return done if done < state.global_step else max(planned, done)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"args": {}, "attributes": {"head_steps": self.head_steps}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say in which steps only the head is trained."""
        planned = warmup_steps(self._asked, self._head_is_new, state.max_steps)
        if not state.global_step or self.head_steps is None:  # None: a checkpoint of an earlier version
            self.head_steps = min(planned, state.global_step)
        steps = self.steps_of(state)
        if state.global_step < steps:
            logger.info(head_first(steps))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze the body in the first steps, and train it from then on."""
        trained = state.global_step >= self.steps_of(state)
        if not trained:
            self.head_steps = state.global_step + 1
        self._train_body(trained)

    def restore(self) -> None:
        """Let the body learn again, however the run ended."""
        self._train_body(True)

    def _train_body(self, trained: bool) -> None:
        for weight in self._body:
            weight.requires_grad_(trained)
