"""The code that some models bring with them: it is run for the one model that a person names, and for no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: What people type who take it for a switch, as it is in transformers.
_SWITCHES = {"", "0", "1", "false", "no", "none", "off", "on", "true", "yes"}


def is_trusted(name: str, trust_remote_code: str | None) -> bool:
    """Tell whether the code of a model may be run: only if it is the very one that was named.

    Raises: ValueError for the name of another model, and as `require_name`.

    >>> is_trusted("someone/model", None), is_trusted("someone/model", "someone/model")
    (False, True)
    """
    require_name(trust_remote_code)
    if trust_remote_code is not None and trust_remote_code != name:
        raise ValueError(
            f"trust_remote_code: received {trust_remote_code!r} for the model {name!r}. Accepted: the name of the "
            "model itself, since no other's code is run. Make them the same, or leave it out."
        )
    return trust_remote_code is not None


def require_name(trust_remote_code: str | None) -> None:
    """Raise ValueError for a switch in the place of a model's name.

    >>> require_name("someone/model")
    """
    if str(trust_remote_code).lower() in _SWITCHES and trust_remote_code is not None:
        raise ValueError(
            f"trust_remote_code: received {trust_remote_code!r}. Accepted: the name of the one model whose code may be "
            "run on this machine. Read that code, and pass --trust_remote_code NAME, or leave it out."
        )


def loading(name: str, folder: Path, trust_remote_code: str | None) -> dict[str, Any]:
    """Return the keyword arguments of `from_pretrained` that say whether a model's own code is run.

    Where transformers has the architecture itself, its own class is used, and the model needs no trust.

    Raises: ValueError for a model that needs its own code and is not trusted, one that points at code in another
    repository, and as `is_trusted`.
    """
    trusted = is_trusted(name, trust_remote_code)
    config = _read(folder / "config.json")
    maps = [config.get("auto_map"), _read(folder / "tokenizer_config.json").get("auto_map")]
    if not trusted:
        if _needs_code(config):
            raise refusal(name)
        return {"trust_remote_code": False}  # said aloud: by default transformers asks on the terminal
    elsewhere = {place.split("--")[0] for place in _places(maps) if "--" in place} - {name}
    if elsewhere:
        raise ValueError(
            f"trust_remote_code: the model {name!r} takes its code from {', '.join(sorted(elsewhere))}. Accepted: code "
            "that lies beside the model. Copy its .py files there, and take the part before -- out of auto_map in its "
            "config.json."
        )
    # A snapshot of the hub is named by its commit: the code is taken from the same one.
    snapshot = {"code_revision": folder.name} if folder.parent.name == "snapshots" else {}
    return {"trust_remote_code": True} | snapshot


def refusal(name: str) -> ValueError:
    """Return the error for a model that cannot be loaded without running its code."""
    return ValueError(
        f"model: {name!r} brings code of its own, which would be run on this machine. Accepted: a model that "
        f"transformers knows without it. If you have read that code and trust it: --trust_remote_code {name}."
    )


def _needs_code(config: dict[str, Any]) -> bool:
    from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    own, kind = config.get("auto_map") or {}, str(config.get("model_type"))
    if "AutoConfig" in own and kind not in CONFIG_MAPPING:
        return True
    known = kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] in MODEL_FOR_MASKED_LM_MAPPING
    return "AutoModelForMaskedLM" in own and not known


def _places(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value or ()
    return [place for each in inner for place in _places(each)]


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; what is wrong with it, transformers says better."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
