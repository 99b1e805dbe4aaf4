"""Going on with a run: which checkpoint, and whether it is still the same run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import SchedulerType, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

#: Values that make a run the run it is. What follows from several of them (the text, the global batch, the model's
#: shape, the masks) is compared as a fact beside them.
FIXED = frozenset(
    {
        "data_seed",
        "dataloader_drop_last",
        "decay_bias_and_norm",
        "evaluation_seed",
        "from_scratch",
        "loss_on",
        "mask_replace_prob",
        "max_length",
        "mlm_probability",
        "optim",
        "optim_args",
        "optim_target_modules",
        "random_replace_prob",
        "seed",
        "static_masks",
        "text_column",
        "train_sampling_strategy",
        "validation_fraction",
        "vocab_size",
    }
)

#: Values that change nothing in what is learned: where files lie, what is printed or saved, how the work is dealt out.
ALLOWED = frozenset(
    {
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "accelerator_config",
        "corpus",  # its text is compared, not its name
        "debug",
        "deepspeed",
        "disable_tqdm",
        "do_eval",
        "do_predict",
        "do_train",
        "enable_jit_checkpoint",
        "fsdp",
        "fsdp_config",
        "full_determinism",
        "gradient_accumulation_steps",  # the global batch is compared
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "greater_is_better",
        "include_for_metrics",
        "include_num_input_tokens_seen",
        "load_best_model_at_end",
        "metric_for_best_model",
        "parallelism_config",
        "per_device_train_batch_size",  # the global batch is compared
        "prediction_loss_only",
        "project",
        "push_to_hub",
        "report_to",
        "restore_callback_states_from_checkpoint",
        "run_name",
        "skip_memory_metrics",
        "torch_empty_cache_steps",
    }
)
_ALLOWED_FAMILIES = ("batch_eval_", "bf16_full_", "dataloader_", "ddp_", "eval_", "fp16_full_", "hub_", "log_",
                     "logging_", "per_device_eval_", "save_", "trackio_")  # fmt: skip

#: What a schedule or an optimizer is made of: a checkpoint brings the old values along, which must not win.
_REMADE = frozenset(
    {
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "learning_rate",
        "lr_scheduler_kwargs",
        "lr_scheduler_type",
        "max_steps",
        "num_train_epochs",
        "warmup_steps",
        "weight_decay",
    }
)


def kind(name: str) -> str:
    """Return what a changed value means on a resume: `fixed`, `allowed`, or `named`: refused unless asked for by name.

    A value that nobody has thought of is `named`.

    >>> kind("seed"), kind("logging_steps"), kind("learning_rate")
    ('fixed', 'allowed', 'named')
    """
    if name in FIXED:
        return "fixed"
    return "allowed" if name in ALLOWED or name.startswith(_ALLOWED_FAMILIES) else "named"


def find_checkpoint(asked: str | Path | bool, output_dir: str | Path) -> Path:
    """Return the checkpoint to go on from.

    Args:
        asked: a checkpoint's folder, a run folder (its newest checkpoint), or True: the newest in `output_dir`.

    A folder `checkpoint-N` without trainer_state.json, which is written last, is no checkpoint.

    Raises: FileNotFoundError where there is none.
    """
    place = Path(output_dir) if asked is True else Path(str(asked)).expanduser()
    if (place / "trainer_state.json").is_file():
        return place
    checkpoints = list_checkpoints(place)
    if checkpoints:
        return checkpoints[-1]
    raise FileNotFoundError(
        f"resume_from_checkpoint: there is no checkpoint in {str(place)!r}. Accepted: a folder checkpoint-N, a run "
        "folder that holds one, or true for the newest in --output_dir. A run saves them with --save_strategy epoch, "
        "or steps with --save_steps; start it again without --resume_from_checkpoint."
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, oldest first."""
    numbered = {
        int(match[1]): path
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / "trainer_state.json").is_file()
    }
    return [numbered[step] for step in sorted(numbered)]


class ResumeContract(TrainerCallback, ExportableState):
    """Keep with each checkpoint what its run is, and hold a resumed run to it.

    Args:
        values: every value of the config.
        facts: gives what follows from them and from the data: the text's fingerprint, the global batch, the model's
            shape. Asked for when training begins, since it reads the data.

    The contract lies in the checkpoint's trainer_state.json, among `stateful_callbacks`.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        facts: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._values = values or {}
        self._facts = facts or dict
        self._found: dict[str, Any] | None = None
        #: One entry for each time the run was resumed: the step, and what was changed.
        self.resumed: list[dict[str, Any]] = []
        self._remake = False
        self.optimizer_groups: list[dict[str, Any]] = []

    def terms(self) -> dict[str, Any]:
        """Return what is compared: `values` and `facts`, as JSON keeps them."""
        if self._found is None:
            self._found = json.loads(json.dumps({"values": self._values, "facts": self._facts()}, default=str))
        return self._found

    def state(self) -> dict[str, Any]:
        """Return what is saved."""
        return {"args": {}, "attributes": {"contract": self.terms() | {"resumed": self.resumed}}}

    def check(self, checkpoint: Path, change: Iterable[str] = ()) -> str:
        """Compare this run with the checkpoint's; return in words what differs and may.

        `change` names the values that are meant to be different now.

        Raises: ValueError for any other difference, with the old and the new value.
        """
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        saved = (state.get("stateful_callbacks") or {}).get(type(self).__name__)
        if saved is None:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} does not say what run it belongs to. Accepted: a "
                f"checkpoint of MLMTrainer. Start a new run from its weights: --model {checkpoint}."
            )
        if not any(checkpoint.glob("optimizer*")) and not any(checkpoint.glob("global_step*")):  # DeepSpeed's name
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} holds no optimizer. Accepted: a checkpoint that was "
                f"saved without --save_only_model. Start a new run from its weights: --model {checkpoint}."
            )
        old, new = saved["attributes"]["contract"], self.terms()
        facts = _differences(old["facts"], new["facts"])
        values = _differences(old["values"], new["values"])
        fixed = facts | {name: pair for name, pair in values.items() if kind(name) == "fixed"}
        if fixed:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} belongs to another run: {_listed(fixed)}. Accepted: the "
                f"values it was begun with. Put them back, or start a new run from its weights: --model {checkpoint}."
            )
        named = {name: pair for name, pair in values.items() if kind(name) == "named"}
        unasked = {name: pair for name, pair in named.items() if name not in set(change)}
        if unasked:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} was made with other values: {_listed(unasked)}. "
                f"Accepted: the values it was begun with. Put them back, or change them on purpose: "
                f"--change_on_resume {' '.join(sorted({*change, *unasked}))}."
            )
        self.resumed = [*old["resumed"], {"step": state["global_step"], "changed": named}]
        self._remake = bool(_REMADE & set(named))
        return _listed(values)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        """Make today's values win over those that came with the checkpoint."""
        if not self.resumed:
            return
        state.compute_steps(args, state.max_steps)  # the steps between logs, evaluations and checkpoints
        if not self._remake:
            return
        if not isinstance(lr_scheduler, LambdaLR):
            schedule = SchedulerType(args.lr_scheduler_type).value
            raise ValueError(
                f"change_on_resume: the schedule {schedule} keeps its own count, which a new value cannot be fitted "
                "to. Accepted: linear, cosine, constant and the like. Put the values back."
            )
        for group, made in zip(optimizer.param_groups, self.optimizer_groups, strict=True):
            group.update(made | {"initial_lr": made["lr"]})
        lr_scheduler.base_lrs = [made["lr"] for made in self.optimizer_groups]
        now = [
            base * share(lr_scheduler.last_epoch)
            for base, share in zip(lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, now, strict=True):
            group["lr"] = rate
        lr_scheduler._last_lr = now  # what get_last_lr() says, and Trainer logs


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return old and new value of each name in which two mappings differ; mappings inside are gone into.

    >>> _differences({"seed": 1, "model": {"layers": 4, "width": 8}}, {"seed": 1, "model": {"layers": 6, "width": 8}})
    {'model.layers': [4, 6]}
    """
    found: dict[str, list[Any]] = {}
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= {f"{name}.{inner}": pair for inner, pair in _differences(a, b).items()}
        elif a != b:
            found[name] = [a, b]
    return found


def _listed(differences: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{name} was {old!r} and is now {new!r}" for name, (old, new) in differences.items())
