"""`AdapterTrainer`: transformers' Trainer for a model that has an adapter injected, and saves only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer

from ...model.adapter_weights import complete_config, load_adapter_weights, named_when_saved
from ...model.lora import has_adapter


class AdapterTrainer(Trainer):
    """Trainer whose checkpoints hold the adapter of a model that has one, and that reads such checkpoints.

    Upstream writes an adapter for such a model, but reads one only into peft's own wrapper (transformers 5.23).
    """

    def _save(self, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        if not has_adapter(self.model):
            super()._save(output_dir, *args, **kwargs)
            return
        with named_when_saved(self.model):
            super()._save(output_dir, *args, **kwargs)
        if self.args.should_save:
            complete_config(self.model, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if not has_adapter(model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_adapter_weights(model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if not has_adapter(self.model):
            super()._load_best_model()
            return
        load_adapter_weights(self.model, Path(str(self.state.best_model_checkpoint)))


def saved_weights(model: Any) -> list[Any]:
    """Return the parameters that a checkpoint holds: all, or of a model with an adapter those that are trained."""
    adapted = has_adapter(model)
    return [weight for weight in model.parameters() if weight.requires_grad or not adapted]
