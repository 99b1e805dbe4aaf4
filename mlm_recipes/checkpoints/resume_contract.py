"""Resuming a run: find the checkpoint, and check that it belongs to the same run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ..metrics_file import OldAndNew, Resumed
from .foreign import foreign, newest_foreign
from .storage import MANIFEST, fault, list_checkpoints, newest_whole
from .value_kinds import CAUSES, MEASURE, METRIC_DRIVEN, REMADE, kind

#: The name of DataCollatorForMaskedLM in contracts of version 0.1.0: its module path at that time.
_FORMER_COLLATOR = "mlm_recipes.collator.DataCollatorForMaskedLM"


def resume_request(value: str | Path | bool | None) -> str | bool:
    """Return what `resume_from_checkpoint` asks for: True, False, "auto", or the path of a checkpoint or a run.

    >>> [resume_request(value) for value in (None, "true", "Auto", "runs/notes")]
    [False, True, 'auto', 'runs/notes']
    """
    text = str(value or "false")
    known: dict[str, str | bool] = {"true": True, "false": False, "auto": "auto"}
    return known.get(text.lower(), text)


def find_checkpoint(asked: str | Path | bool, output_dir: str | Path) -> Path:
    """Return the checkpoint to resume from, checked for damage (`mlm_recipes.checkpoints.storage.fault`).

    Args:
        asked: a checkpoint's folder, a run folder (its newest complete checkpoint), or True: the newest in
            `output_dir`. Checkpoints that are skipped are logged.

    Raises: FileNotFoundError if there is none; ValueError if the named one is incomplete or damaged, or if there is
    only one of another program (`mlm_recipes.checkpoints.foreign`).
    """
    place = Path(output_dir) if resume_request(asked) is True else Path(str(asked)).expanduser()
    if (newest := newest_whole(place)) is not None:
        return newest
    beside = ", ".join(str(path) for path in list_checkpoints(place.parent) if path != place)
    others = f"The same folder also holds {beside}. " if beside else ""
    _refuse_foreign(place, others)
    if place.is_dir() and ((place / MANIFEST).exists() or re.fullmatch(r"checkpoint-\d+", place.name)):
        wrong = fault(place)
        if wrong is None:
            return place
        raise ValueError(
            f"resume_from_checkpoint: {str(place)!r} is incomplete or damaged: {wrong}. Accepted: a complete "
            f"checkpoint. {others}Name another, or the run folder for its newest complete checkpoint."
        )
    raise FileNotFoundError(
        f"resume_from_checkpoint: there is no checkpoint in {str(place)!r}. Accepted: a complete checkpoint-N folder, "
        "a run folder that holds one, or true for the newest in --output_dir. "
        + (
            others.rstrip()
            or "Start the run again without --resume_from_checkpoint. To save checkpoints, pass --save_strategy epoch, "
            "or steps with --save_steps."
        )
    )


def _refuse_foreign(place: Path, others: str) -> None:
    """Raise ValueError if `place` is another program's checkpoint, or holds no other."""
    itself = foreign(place) if not (place / MANIFEST).exists() else None
    found = (place, itself) if itself is not None else newest_foreign(place)
    if found is None:
        return
    path, other = found
    raise ValueError(
        f"resume_from_checkpoint: {str(path)!r} is {other.what}. It does not say which text, masks and order of "
        f"examples its run had, so that run cannot be resumed exactly. Accepted: a checkpoint that MLMTrainer saved. "
        f"{others}{other.next_step}"
    )


def refuse_to_replace(output_dir: str | Path) -> None:
    """Raise ValueError if a new run would replace checkpoints of another program in its folder."""
    for path in sorted(Path(output_dir).glob("checkpoint-*")):
        if not re.fullmatch(r"checkpoint-\d+", path.name) or (other := foreign(path)) is None:
            continue
        raise ValueError(
            f"output_dir: {str(output_dir)!r} holds {path.name}, {other.what}, and the checkpoints of this run would "
            f"replace it. Accepted: a folder without such a checkpoint. Name another. {other.next_step}"
        )


def saved_values(checkpoint: Path) -> dict[str, Any]:
    """Return the config values that a checkpoint was saved with; empty if it does not record them."""
    terms = saved_terms(checkpoint)
    return {} if terms is None else terms["values"]


def saved_terms(checkpoint: Path) -> dict[str, Any] | None:
    """Return the `values` and `facts` that define a checkpoint's run; None if it does not record them."""
    return _saved_contract(_saved_state(checkpoint))


def _saved_state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))


def _saved_contract(state: dict[str, Any]) -> dict[str, Any] | None:
    saved = (state.get("stateful_callbacks") or {}).get(ResumeContract.__name__)
    if saved is None:
        return None
    contract = saved["attributes"]["contract"]
    masking = contract["facts"].get("masking")
    if isinstance(masking, dict) and masking.get("collator") == _FORMER_COLLATOR:
        masking["collator"] = "mlm_recipes.DataCollatorForMaskedLM"
    return contract


class ResumeContract(TrainerCallback, ExportableState):
    """Record in each checkpoint what defines its run, and hold a resumed run to it.

    Args:
        values: returns every value of the config.
        facts: returns what these and the data determine: the text's fingerprint, the global batch, the model's shape.
            Called once, when training begins, since it reads the data.
        defaults: returns the defaults of this library's own values: what a checkpoint had that was saved before they
            were added.

    The contract is stored in the checkpoint's trainer_state.json, under `stateful_callbacks`.
    """

    def __init__(
        self,
        values: Callable[[], Mapping[str, Any]] = dict,
        facts: Callable[[], Mapping[str, Any]] = dict,
        defaults: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._values, self._facts, self._defaults = values, facts, defaults
        self._known_facts: Mapping[str, Any] | None = None
        #: One entry for each resume: the step, and what was changed.
        self.resumed: list[Resumed] = []
        self._remake = False
        #: Whether another measure, or its other direction, decides since the resume which model is the best.
        self.other_measure = False
        self.optimizer_groups: list[dict[str, Any]] = []

    def forget(self) -> None:
        """Ask for the facts again: the model or the values are new."""
        self._known_facts = None

    def terms(self) -> dict[str, Any]:
        """Return what is compared: `values` and `facts`, as JSON keeps them."""
        if self._known_facts is None:
            self._known_facts = self._facts()
        return json.loads(json.dumps({"values": self._values(), "facts": self._known_facts}, default=str))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"args": {}, "attributes": {"contract": self.terms() | {"resumed": self.resumed}}}

    def check(self, checkpoint: Path, change: Iterable[str] = ()) -> str:
        """Compare this run with the checkpoint's; return a description of the differences that are allowed.

        `change` names the values that are changed on purpose. A value or fact that only one side has, because it comes
        from another version of transformers, is not compared.

        Raises: ValueError for any other difference, with the old and the new value.
        """
        state = _saved_state(checkpoint)
        old = _saved_contract(state)
        new = self.terms()
        anew = f"start a new run from its weights, without --resume_from_checkpoint: --model {checkpoint}"
        if new["values"].get("from_scratch"):
            anew += " --from_scratch false"
        if old is None:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} does not record which run it belongs to. Accepted: "
                f"a checkpoint saved by MLMTrainer. Or {anew}."
            )
        if not any(checkpoint.glob("optimizer*")):
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} holds no optimizer state. Accepted: a checkpoint "
                f"saved without --save_only_model. Or {anew}."
            )
        saved = json.loads(json.dumps(self._defaults(), default=str)) | old["values"]
        values = {
            name: [saved[name], new["values"][name]]
            for name in sorted(saved.keys() & new["values"].keys())
            if saved[name] != new["values"][name]
        }
        facts = _differences(old["facts"], new["facts"], complete=("masking",))
        batch = _same_batch(facts.get("global batch"), new["values"])
        fixed = {name: pair for name, pair in values.items() if kind(name) == "fixed"}
        if facts:
            fixed |= {name: pair for name, pair in values.items() if name in CAUSES} | facts
        if fixed:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} belongs to another run: {_listed(fixed)}. Accepted: the "
                f"values that run was started with. Restore them{batch}, or {anew}."
            )
        schedules = {str(side["values"].get("lr_scheduler_type")) for side in (old, new)}
        follows_metric = new["values"].get("metric_for_best_model") is not None  # schedules and early stopping too
        measured = {"eval_delay", "eval_steps", "eval_strategy"} if follows_metric else set()
        named = {name: pair for name, pair in values.items() if kind(name) == "named" or name in measured}
        unasked = sorted(named.keys() - set(change))
        if unasked:
            raise ValueError(
                f"resume_from_checkpoint: {str(checkpoint)!r} was saved with other values: "
                f"{_listed({name: named[name] for name in unasked})}. Accepted: the values it was saved with. Restore "
                f"them, or change them on purpose: --change_on_resume {' '.join(sorted({*change, *unasked}))}."
            )
        remade = sorted(REMADE & named.keys())
        if schedules & METRIC_DRIVEN:
            remade = [name for name in remade if name not in ("max_steps", "num_train_epochs")]  # it depends on neither
            kept = remade + sorted(MEASURE & named.keys())
            if kept:
                raise ValueError(
                    f"change_on_resume: received {' '.join(kept)} with the schedule "
                    f"{' and '.join(sorted(schedules))}, which keeps its own step count and best value. Accepted: "
                    "another number of steps. Restore the old values."
                )
        self.resumed = [*old["resumed"], {"step": state["global_step"], "changed": cast(dict[str, OldAndNew], named)}]
        self._remake = bool(remade)
        self.other_measure = bool(MEASURE & named.keys())
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
        """Let the current values override those that the checkpoint restored."""
        if not self.resumed:
            return
        state.compute_steps(args, state.max_steps)  # the steps between logs, evaluations and checkpoints
        if not self._remake:
            return
        assert isinstance(lr_scheduler, LambdaLR), "check() refuses changes to any other schedule"
        for group, made in zip(optimizer.param_groups, self.optimizer_groups, strict=True):
            group.update(made | {"initial_lr": made["lr"]})
        lr_scheduler.base_lrs = [made["lr"] for made in self.optimizer_groups]
        now = [
            base * share(lr_scheduler.last_epoch)
            for base, share in zip(lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, now, strict=True):
            group["lr"] = rate
        lr_scheduler._last_lr = now  # what get_last_lr() returns and Trainer logs


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], complete: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Return the old and the new value of each name whose values differ, if both sides have it; mappings may be nested.

    In the mappings named `complete`, a name that one side lacks differs too: its value there is None.

    >>> _differences({"seed": 1, "model": {"layers": 4, "width": 8}}, {"seed": 1, "model": {"layers": 6, "new": 8}})
    {'model.layers': [4, 6]}
    >>> _differences({"masking": {}}, {"masking": {"masking_policy": "span"}}, complete=["masking"])
    {'masking.masking_policy': [None, 'span']}
    """
    found: dict[str, list[Any]] = {}
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if name in complete:
                a, b = dict.fromkeys(b) | dict(a), dict.fromkeys(a) | dict(b)
            found |= {f"{name}.{inner}": pair for inner, pair in _differences(a, b).items()}
        elif a != b:
            found[name] = [a, b]
    return found


def _same_batch(pair: list[int] | None, values: Mapping[str, Any]) -> str:
    """Return how to get the same global batch with the current number of processes, or that it is not possible.

    >>> _same_batch([16, 4], {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1})
    ' (the same global batch: --per_device_train_batch_size 4 --gradient_accumulation_steps 4)'
    """
    if pair is None:
        return ""
    old, new = pair
    micro, accumulation = values["per_device_train_batch_size"], values["gradient_accumulation_steps"]
    processes = max(1, new // (micro * accumulation))
    if old % processes:
        return f" (a global batch of {old} cannot be split over {processes} processes)"
    if old % (micro * processes):
        micro = old // processes
    return (
        f" (the same global batch: --per_device_train_batch_size {micro} "
        f"--gradient_accumulation_steps {old // (micro * processes)})"
    )


def _listed(differences: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{name} was {old!r} and is now {new!r}" for name, (old, new) in differences.items())
