"""`ChangedDefaults`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ChangedDefaults:
    """Values of transformers whose default does not suit this library."""

    per_device_train_batch_size: int = field(
        default=16, metadata={"help": "The number of rows per device in a training step."}
    )
    per_device_eval_batch_size: int = field(
        default=16, metadata={"help": "The number of rows per device in an evaluation step."}
    )
    logging_steps: float = field(default=1, metadata={"help": "The number of steps between two logged losses."})
    dataloader_num_workers: int | None = field(
        default=None,
        metadata={
            "help": "The number of processes that prepare batches; by default 0 on a CPU and for a stream, and 2 on a "
            "CUDA GPU, which they keep supplied for the whole run."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={
            "help": "Has no effect on the logged loss, which leaves skipped steps out (on_nonfinite); if true, every "
            "micro-batch waits for its loss."
        },
    )
    disable_tqdm: bool | None = field(
        default=None,
        metadata={
            "help": "Show no bar and no lines of progress; evaluations are still shown, one line each, unless "
            "log_level is error or critical."
        },
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=False,
        metadata={
            "help": "Has no effect: what callbacks remember is always restored, so that a resumed run stops early when "
            "the uninterrupted one does."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Resume a run: true (from its newest checkpoint), a run folder, a checkpoint folder, or auto "
            "(resume the run if it was started before, otherwise start it; if it is finished, do nothing)."
        },
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must be false, since the collator needs example_id."}
    )
