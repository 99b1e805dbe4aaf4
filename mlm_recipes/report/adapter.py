"""What a run says of the adapter that it trained, in its report and its model card; imports no torch."""

from __future__ import annotations

from ..metrics_file import Train
from .wording import count


def how_trained(train: Train) -> str | None:
    """Return what was trained, if it was an adapter; None if it was the whole model.

    >>> lora = {"r": 16, "alpha": 32, "layers": 24, "head": [], "merged": False}
    >>> how_trained({"lora": lora, "parameters": 4_800_000, "trained_parameters": 57_600})
    'LoRA, r 16 and alpha 32 on 24 linear layers: 57,600 parameters, 1.2%; saved as an adapter'
    """
    lora = train.get("lora")
    if lora is None:
        return None
    trained = train["trained_parameters"]
    new = f" and the head ({', '.join(lora['head'])})" if lora["head"] else ""
    saved = "merged into the model" if lora["merged"] else "as an adapter"
    return (
        f"LoRA, r {lora['r']} and alpha {lora['alpha']:g} on {count(lora['layers'], 'linear layer')}{new}: "
        f"{count(trained, 'parameter')}, {trained / train['parameters']:.1%}; saved {saved}"
    )


def is_alone(train: Train) -> bool:
    """Tell whether the run saved an adapter without its model."""
    lora = train.get("lora")
    return lora is not None and not lora["merged"]
