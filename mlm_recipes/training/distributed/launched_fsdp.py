"""What `accelerate launch --use_fsdp` asks for becomes the config's, so that recipe.yaml repeats the run."""

from __future__ import annotations

import logging
import os
from typing import Any

logger = logging.getLogger(__name__)

#: The variable by which the launcher asks for FSDP.
USE_FSDP = "ACCELERATE_USE_FSDP"

#: Entries of `fsdp_config`, and the variables that the launcher sets for them. accelerate reads the others itself.
_ENTRIES = {
    "version": "FSDP_VERSION",
    "reshard_after_forward": "FSDP_RESHARD_AFTER_FORWARD",
    "state_dict_type": "FSDP_STATE_DICT_TYPE",
}


def take_fsdp(config: Any) -> None:
    """Set `fsdp` and `fsdp_config` of a config to what the launcher asks for; called if it asks for FSDP.

    Entries that the config has are kept. Each process loads the whole model before it is divided, so the launcher's
    wish that only one of them does is not followed.

    Raises: ValueError for FSDP's first version, which is the launcher's default.
    """
    if config.fsdp is False:
        logger.warning("fsdp is on, although the config says false: the launcher asks for it.")
    config.fsdp = True
    # transformers looks here, and would leave the weights of all other processes empty.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    if isinstance(config.fsdp_config, str):
        return  # a file
    asked = {entry: os.environ[name] for entry, name in _ENTRIES.items() if os.environ.get(name)}
    config.fsdp_config = asked | (config.fsdp_config or {})
    version = config.fsdp_config.get("version", "2")
    if str(version) != "2":
        raise ValueError(
            f"launcher: received --fsdp_version {version}, the default of `accelerate launch`. Accepted: 2, torch's "
            "fully_shard, since transformers deprecates the first version. Pass --fsdp_version 2 "
            "--fsdp_reshard_after_forward true."
        )
