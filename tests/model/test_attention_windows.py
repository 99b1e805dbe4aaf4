from __future__ import annotations

from transformers import AutoConfig

from mlm_recipes.model.attention_windows import longest_window


def test_layers_may_have_windows_of_different_widths():
    windows = {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    config = AutoConfig.for_model("neomme", **windows, per_layer_config={0: {"sliding_window": 40}})
    assert sorted(layer.sliding_window or 0 for layer in config.per_layer_config)[-1] == longest_window(config)
    assert longest_window(AutoConfig.for_model("neomme")) == 1024
