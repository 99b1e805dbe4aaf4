"""What a subclass overrides; methods that are never called here are refused by name."""

from __future__ import annotations

from transformers import Trainer

#: Methods of Trainer that this library does not call: why not, and what to do instead.
_NEVER_CALLED = {
    "prediction_step": (
        "evaluation scores each masked token by itself, and keeps no logits",
        "Pass compute_metrics and preprocess_logits_for_metrics, or override evaluation_loop",
    ),
    "_get_train_sampler": (
        "a step has the same examples in any number of processes, and in a resumed run",
        "Choose a train_sampling_strategy, or override get_train_dataloader",
    ),
    "_get_dataloader": (
        "only evaluation would use it",
        "Override get_train_dataloader and get_eval_dataloader",
    ),
}


def overrides(cls: type[Trainer], base: type[Trainer], name: str) -> bool:
    """Tell whether a class has another method of this name than `base`.

    >>> overrides(type("Mine", (Trainer,), {"log": print}), Trainer, "log"), overrides(Trainer, Trainer, "log")
    (True, False)
    """
    return getattr(cls, name) is not getattr(base, name)


def refuse_never_called(cls: type[Trainer]) -> None:
    """Raise ValueError for a subclass that overrides a method which would never be called."""
    for name, (why, instead) in _NEVER_CALLED.items():
        if overrides(cls, Trainer, name):
            raise ValueError(
                f"{name}: {cls.__name__} overrides it, and it would never be called: {why}. Accepted: a class without "
                f"it. {instead}."
            )
