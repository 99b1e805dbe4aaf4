"""The methods that benchmarks/policies.py compares: each is named, and changes some values of a recipe."""

from __future__ import annotations

from typing import Any

#: Ways to mask, for a model that starts from random weights; a constant share of 20% where none is given. The first one
#: is what the others are compared with.
PRETRAINING: dict[str, dict[str, Any]] = {
    "token 20%": {},
    "token 15%": {"mlm_probability": 0.15},
    "token 30%": {"mlm_probability": 0.3},
    "token 40%": {"mlm_probability": 0.4},
    "token 50%": {"mlm_probability": 0.5},
    "80/10/10": {"mask_replace_prob": 0.8, "random_replace_prob": 0.1},
    "exact_count": {"masking_policy": "exact_count"},
    "whole_word": {"masking_policy": "whole_word"},
    "span": {"masking_policy": "span"},
    "informative": {"masking_policy": "informative", "general_corpus": "general-english"},
    "linear 30% to 15%": {"mlm_probability": 0.3, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.15},
    "linear 30% to 5%": {"mlm_probability": 0.3, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.05},
    "linear 30% to 1%": {"mlm_probability": 0.3, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.01},
    "steps 30%, 15%, 5%": {
        "mlm_probability": 0.3,
        "mlm_probability_schedule": "step",
        "mlm_probability_end": [0.15, 0.05],
    },
}

#: Values that several ways to adapt share.
_FALLING = {"mlm_probability": 0.5, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.15}
_LORA = {"peft": "lora", "muon": False, "learning_rate": 3e-3, "adam_epsilon": 1e-8}
_SQRT = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"decay_type": "1-sqrt"}}

#: Ways to adapt, for a model that was trained: by the quickstart, but with a constant share of 40% where none is given.
#: The first one is what the others are compared with.
ADAPTING: dict[str, dict[str, Any]] = {
    "token 40%": {},  # Muon at 1e-3, everything trained
    "token 15%": {"mlm_probability": 0.15},
    "token 25%": {"mlm_probability": 0.25},
    "linear 50% to 15%": _FALLING,
    "linear, exact_count": {**_FALLING, "masking_policy": "exact_count"},
    "whole_word": {"masking_policy": "whole_word"},
    "span": {"masking_policy": "span"},
    "exact_count": {"masking_policy": "exact_count"},
    "informative": {"masking_policy": "informative"},
    "80/10/10": {"mask_replace_prob": 0.8, "random_replace_prob": 0.1},
    "LoRA": _LORA,
    "LoRA, 1e-3": {**_LORA, "learning_rate": 1e-3},
    "LoRA, 1e-2": {**_LORA, "learning_rate": 1e-2},
    "LoRA, r 64": {**_LORA, "lora_r": 64, "lora_alpha": 128},
    "LoRA, no head": {**_LORA, "lora_train_head": False},
    "LoRA, Muon": {"peft": "lora"},
    "LoRA, Muon, 3e-3": {"peft": "lora", "learning_rate": 3e-3},
    "freeze embeddings": {"freeze": "embeddings"},
    "freeze lower-2": {"freeze": "lower-2"},
    "layer-wise decay 0.8": {"layerwise_lr_decay": 0.8},
    "1-sqrt decay": _SQRT,
    # At this rate its mean is that of the quickstart's 1e-3, which falls from the beginning.
    "1-sqrt decay, 6e-4": {**_SQRT, "learning_rate": 6e-4},
    "mix general 10%": {"mix": {"general": 0.1}},
}
