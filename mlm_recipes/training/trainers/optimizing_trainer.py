"""`OptimizingTrainer`: the optimizer and the schedule, which the config's values describe."""

from __future__ import annotations

import copy
import logging
from abc import ABC
from typing import Any

import torch

from ...model.layers import depths
from ..optimization.layerwise_rates import split_by_depth
from ..optimization.muon import muon_with_adamw
from ..optimization.schedules import is_wsd, phases, with_phases
from .evaluating_trainer import EvaluatingTrainer

logger = logging.getLogger(__name__)


class OptimizingTrainer(EvaluatingTrainer, ABC):
    """EvaluatingTrainer with Muon, learning rates by layer, and a schedule whose phases need not be counted."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the optimizer, and store its values, since those in a checkpoint would replace them."""
        new = self.optimizer is None
        if self.args.muon and self.optimizer is None:
            model = self.model if model is None else model
            self.optimizer = muon_with_adamw(
                model,
                self.get_decay_parameter_names(model),
                self.args.weight_decay,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                fused=self.args.optim == "adamw_torch_fused",
                dtype=torch.bfloat16 if self.args.bf16 else torch.float32,
            )
        optimizer = super().create_optimizer(model)
        if new and self.args.layerwise_lr_decay != 1:
            whole: Any = self.model
            of_name = depths(whole, self.processing_class, "layerwise_lr_decay")
            of_weight = {weight: of_name[name] for name, weight in whole.named_parameters()}
            split_by_depth(optimizer, of_weight, self.args.layerwise_lr_decay)
        self._contract.optimizer_groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule; `warmup_stable_decay` is told how many steps its decay has."""
        args = self.args
        if self.lr_scheduler is None and is_wsd(args.lr_scheduler_type):
            given: Any = args.lr_scheduler_kwargs
            warmup = args.get_warmup_steps(num_training_steps)
            self.args = copy.copy(args)  # the config is the caller's
            kwargs = self.args.lr_scheduler_kwargs = with_phases(given, num_training_steps, warmup)
            logger.info(phases(kwargs, num_training_steps, warmup))
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        finally:
            self.args = args

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Return the parameters that weight decay applies to: all with `decay_bias_and_norm`, or upstream's."""
        if self.args.decay_bias_and_norm:
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)
