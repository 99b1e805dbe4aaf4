"""`SpeedOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class SpeedOptions:
    """The fast paths, and the time that a run may take."""

    train_minutes: float | None = field(
        default=None,
        metadata={
            "help": "The minutes that training may take: a few steps are timed, and max_steps is set to the number "
            "that fits, at most the max_steps given. num_train_epochs is then ignored. Only for `train`."
        },
    )
    padding_free: bool = field(
        default=True,
        metadata={"help": "Join a batch's rows into one instead of padding them; the loss is the same."},
    )
    sparse_prediction: bool = field(
        default=True, metadata={"help": "Compute the vocabulary head at masked positions only; the loss is the same."}
    )
    cuda_graphs: bool = field(
        default=True,
        metadata={
            "help": "On a CUDA GPU, replay the kernels of small steps, since starting them takes longer than computing "
            "them; batches are filled up to one of few shapes. The result is the same, without dropout."
        },
    )
    bf16: bool | None = field(
        default=None,
        metadata={
            "help": "Use bfloat16 autocast; by default only if the hardware is fast at it. With false, everything is "
            "computed in float32.",
            **{"nargs": "?", "const": True},  # so that the flag without a value means true, as it does upstream
        },
    )
    bf16_residual: bool = field(
        default=False,
        metadata={
            "help": "With bf16: LayerNorm and the sums of the residual connections are computed in bfloat16 too; a "
            "step is faster on a GPU, the loss differs by rounding."
        },
    )
    torch_compile: str = field(  # argparse takes no bool | str; __post_init__ makes it one
        default="auto",
        metadata={
            "help": "Compile the model's layers and its head while training: true, false, or auto (on CUDA, if the run "
            "is long enough to earn the time it takes).",
            **{"nargs": "?", "const": "true"},
        },
    )
    dropout_by_example: bool = field(
        default=False,
        metadata={
            "help": "Draw dropout's noise for each row by its tokens and the step, so that the result does not depend "
            "on the number of processes or on how batches are divided. A step takes 2% longer on a CPU; on a "
            "GPU, attention with dropout then cannot use the flash kernel. By default each process draws its own."
        },
    )
