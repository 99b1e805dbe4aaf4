"""The sliding windows of a model's attention."""

from __future__ import annotations

from typing import Any


def longest_window(config: Any) -> int:
    """Return how many positions the widest sliding window of any layer reaches, or 0 if there is none.

    Layers may have windows of different widths: such a config has one for each of its layers.

    >>> from transformers import BertConfig, ModernBertConfig
    >>> longest_window(ModernBertConfig(local_attention=128)), longest_window(BertConfig())
    (64, 0)
    """
    layers = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
    return max((getattr(layer, "sliding_window", None) or 0 for layer in layers), default=0)
