"""Checks how a config or the launcher asks to divide a model: what would be ignored or was not tried is refused."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from ..distributed.launcher import asked_sharding, asks_for

#: Optimizers whose state is known to be divided and saved as the weights are.
_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd")

_HOW = "Set it in fsdp_config, or with `accelerate launch` as --fsdp_"


def check_sharding(config: Any) -> None:
    """Raise ValueError for DeepSpeed, and for a value of an MLMConfig that cannot be used with FSDP."""
    if config.deepspeed or asks_for("ACCELERATE_USE_DEEPSPEED"):
        received = repr(config.deepspeed) if config.deepspeed else "--use_deepspeed of `accelerate launch`"
        raise ValueError(
            f"deepspeed: received {received}. Accepted: no value. DeepSpeed's checkpoints are pickles that it reads "
            "without a check, so no run could resume from them safely, and ZeRO-3 waits forever while one process "
            "loads the model before the others. FSDP divides the same: pass --fsdp true instead of ZeRO-3, and "
            "--fsdp_config '{\"reshard_after_forward\": false}' with it instead of ZeRO-1 or ZeRO-2."
        )
    if asked_sharding(config) != "FSDP":
        return
    optim = str(getattr(config.optim, "value", config.optim))
    if optim not in _OPTIMIZERS:
        raise ValueError(
            f"optim: received {optim!r} with FSDP. Accepted: {', '.join(_OPTIMIZERS)}, and muon, since the states of "
            "others were not tried in shares. Choose one of them, or leave fsdp out."
        )
    if config.fp16:
        raise ValueError(
            "fp16: received True with FSDP. Accepted: bf16, since float16 needs a scaler that sees all shares of the "
            "gradients. Pass --bf16 true, or leave fsdp out."
        )
    if os.environ.get("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "1") not in ("", "0", "1"):
        raise ValueError(
            "launcher: received PARALLELISM_CONFIG_DP_REPLICATE_SIZE="
            f"{os.environ['PARALLELISM_CONFIG_DP_REPLICATE_SIZE']} with FSDP. Accepted: 1, so that each weight is "
            "divided over all processes. Leave --parallelism_config_dp_replicate_size out."
        )


def check_plugin(plugin: Any, layers: Collection[str]) -> None:
    """Raise ValueError for what accelerate's plugin was told that this library's sharding does not do.

    Args:
        plugin: accelerate's `fsdp_plugin`, from the config or from the launcher.
        layers: the names of the classes of the model's layers, which are sharded one by one.
    """
    if plugin.fsdp_version != 2:
        raise ValueError(
            f"fsdp_config: received version {plugin.fsdp_version}. Accepted: 2, torch's fully_shard. {_HOW}version 2."
        )
    if type(plugin.cpu_offload).__name__ == "CPUOffloadPolicy" or plugin.cpu_offload is True:
        raise ValueError(
            "fsdp_config: received cpu_offload true. Accepted: false, since clipping and the optimizer would need a "
            f"second backend for the CPU. {_HOW}offload_params false; --gradient_checkpointing true saves memory too."
        )
    if plugin.activation_checkpointing:
        raise ValueError(
            "fsdp_config: received activation_checkpointing true. Accepted: false, since transformers' own is used, "
            f"which does the same. {_HOW}activation_checkpointing false, and pass --gradient_checkpointing true."
        )
    if plugin.ignored_modules is not None:
        raise ValueError(
            f"fsdp_config: received ignored_modules {plugin.ignored_modules!r}. Accepted: none, since all weights are "
            "divided. Leave it out."
        )
    asked = set(plugin.transformer_cls_names_to_wrap or ())
    if plugin.min_num_params or asked - set(layers):
        received = f"min_num_params {plugin.min_num_params}" if plugin.min_num_params else f"layers {sorted(asked)}"
        raise ValueError(
            f"fsdp_config: received {received}. Accepted: no value, or the layers of this model: "
            f"{', '.join(sorted(layers)) or 'none'}. Each layer is sharded by itself, and the rest together. Leave "
            "min_num_params and transformer_layer_cls_to_wrap out."
        )
