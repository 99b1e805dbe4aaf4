"""`OptimizerOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class OptimizerOptions:
    """How weights are updated, and when training stops."""

    decay_bias_and_norm: bool = field(
        default=False,
        metadata={
            "help": "Apply weight decay to biases and normalisation weights too, as AdamW(model.parameters()) does."
        },
    )
    muon: bool = field(
        default=False,
        metadata={
            "help": "Use Muon for the matrices inside the model and AdamW for the rest; it helps a model that starts "
            "from random weights."
        },
    )
    on_nonfinite: str = field(
        default="stop",
        metadata={
            "help": "What to do if a loss or gradient is NaN or infinite: stop the run before the update, or skip the "
            "step."
        },
    )
    max_skipped_steps: int = field(
        default=10, metadata={"help": "With on_nonfinite skip: the most steps that a run skips before it stops."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop training after this many evaluations without an improvement of metric_for_best_model (by "
            "default the loss); needs eval_strategy. load_best_model_at_end then loads the best model."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0,
        metadata={"help": "By how much the measure must improve on its best value for an evaluation to count as one."},
    )
    global_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "The number of rows in a training step over all processes; gradient_accumulation_steps then "
            "follows from it and from the number of processes, so that both may change. By default "
            "per_device_train_batch_size x gradient_accumulation_steps x the processes that a run starts with."
        },
    )
