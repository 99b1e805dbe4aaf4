"""`ShardedTrainer`: a model whose weights several processes share (FSDP2), and checkpoints of it without pickles."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open

from ...checkpoints.sharded_states import has_shards, load_state, save_state
from ...model.sharded_weights import copy_weights, divided_like, joined, weights_of
from ..checks.sharding_checks import check_plugin
from ..distributed.launched_fsdp import USE_FSDP
from ..distributed.sharding import is_sharded, separate_layers, shard, whole
from .adapter_trainer import AdapterTrainer

#: Upstream's names of the files in a checkpoint.
_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"


class _Loaded(NamedTuple):
    """What `load_state_dict` returns."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class ShardedTrainer(AdapterTrainer):
    """AdapterTrainer that shards a model layer by layer if FSDP is asked for, and saves what it shards.

    A checkpoint has the whole model, as every checkpoint does, and the optimizer's state in shares
    (`mlm_recipes.checkpoints.sharded_states`). A run goes on from it with any number of processes, with FSDP or
    without; and with FSDP from the checkpoint of a run without.
    """

    _is_whole = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        launched = os.environ.get(USE_FSDP)
        super().__init__(*args, **kwargs)
        if launched is None:  # accelerate sets it, and a later run in this process would seem to be launched with FSDP
            os.environ.pop(USE_FSDP, None)
        if self.is_fsdp_enabled:
            model: Any = self.model
            layers = {type(layer).__name__ for layer in separate_layers(model)}
            check_plugin(self.accelerator.state.fsdp_plugin, layers)
            model.to(self.args.device)  # upstream leaves it where it is, and it is measured before it is sharded

    @contextmanager
    def whole_model(self) -> Iterator[None]:
        """Within `with`, let each process have all of the model's weights, to evaluate it; all enter together.

        Without FSDP, and within another `with`, this does nothing.
        """
        model: Any = self.model
        if self._is_whole or model is None or not is_sharded(model):
            yield
            return
        self._is_whole = True
        try:
            with whole(model, self._reshards):
                yield
        finally:
            self._is_whole = False

    @property
    def _reshards(self) -> bool:
        return bool(self.accelerator.state.fsdp_plugin.reshard_after_forward)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        model: Any = self.model
        self._placed: list[list[torch.nn.Parameter]] | None = None
        if self.is_fsdp_enabled and not is_sharded(model):
            # accelerate would look for layers by names that sharding has changed.
            self.accelerator.state.fsdp_plugin.auto_wrap_policy = None
            # For autocast: with FSDP2, accelerate 1.15 leaves that to the rounding of all weights and activations.
            self.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
            shard(model, self.args.device, self._reshards)
        return super()._prepare_for_training(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the optimizer as upstream does, and note which weights it has."""
        optimizer = super().create_optimizer(model)
        self._placed = [list(group["params"]) for group in optimizer.param_groups]
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule as upstream does, after it has prepared the optimizer.

        accelerate looks up an optimizer's weights by the address of their memory. Shares without a row have none, so
        that it confuses them with each other.
        """
        if self.is_fsdp_enabled and self._placed is not None:
            for group, placed in zip(cast(Any, self.optimizer).param_groups, self._placed, strict=True):
                group["params"] = placed
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        return joined(norm) if isinstance(norm, torch.Tensor) else norm

    # The model

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the whole model, whatever state_dict_type is; all processes call this."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        weights = weights_of(cast(Any, self.model), keep=bool(self.args.should_save))
        self._save(output_dir or str(self.args.output_dir), state_dict=weights)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        self._copy_from(Path(resume_from_checkpoint), self.model if model is None else model)

    def _load_best_model(self) -> None:
        if not self.is_fsdp_enabled:
            super()._load_best_model()
            return
        self._copy_from(Path(str(self.state.best_model_checkpoint)), self.model)

    def _copy_from(self, checkpoint: Path, model: Any) -> None:
        missing, unknown = copy_weights(model, _weights_in(checkpoint))
        self._issue_warnings_after_load(_Loaded(missing, unknown))

    # The optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        names, optimizer = self._names(), cast(Any, self.optimizer)
        state = {names[weight]: values for weight, values in optimizer.state.items()}
        groups = [group | {"params": [names[weight] for weight in group["params"]]} for group in optimizer.param_groups]
        save_state(Path(output_dir), state, groups, main=bool(self.args.should_save))
        if self.args.should_save:
            torch.save(cast(Any, self.lr_scheduler).state_dict(), Path(output_dir) / _SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not (self.is_fsdp_enabled or has_shards(Path(checkpoint))):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder, optimizer = Path(checkpoint), cast(Any, self.optimizer)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        if has_shards(folder):
            state = self._state_of_shards(folder, weights)
        else:
            state = _read(folder / _OPTIMIZER)
            state["state"] = {place: _divided(values, weights[place]) for place, values in state["state"].items()}
        optimizer.load_state_dict(state)
        cast(Any, self.lr_scheduler).load_state_dict(_read(folder / _SCHEDULER))

    def _state_of_shards(self, folder: Path, weights: list[torch.Tensor]) -> dict[str, Any]:
        """Return an optimizer's `state_dict` that was saved by names, with places, as torch wants it."""
        names = self._names()
        place = {names[weight]: number for number, weight in enumerate(weights)}
        state, groups = load_state(folder, {names[weight]: weight for weight in weights})
        for group in groups:
            group["params"] = [place[name] for name in group["params"]]
        return {"state": {place[name]: values for name, values in state.items()}, "param_groups": groups}

    def _names(self) -> dict[Any, str]:
        return {weight: name for name, weight in cast(Any, self.model).named_parameters()}


def _weights_in(checkpoint: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(checkpoint.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                yield name, file.get_tensor(name)


def _divided(values: Mapping[str, Any], weight: torch.Tensor) -> dict[str, Any]:
    """Return the state of a weight, divided as the weight is."""
    return {
        key: divided_like(value, weight) if isinstance(value, torch.Tensor) and value.shape == weight.shape else value
        for key, value in values.items()
    }


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
