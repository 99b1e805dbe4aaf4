"""Custom code of hub models: it is run only for the one model that the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: What users pass who take it for a switch, as it is in transformers.
_SWITCHES = {"", "0", "1", "false", "no", "none", "off", "on", "true", "yes"}


def is_trusted(name: str, trust_remote_code: str | None) -> bool:
    """Tell whether a model's code may be run: only if `trust_remote_code` is this model's name.

    Raises: ValueError for the name of another model, and as `require_name`.

    >>> is_trusted("someone/model", None), is_trusted("someone/model", "someone/model")
    (False, True)
    """
    require_name(trust_remote_code)
    if trust_remote_code is not None and trust_remote_code != name:
        raise ValueError(
            f"trust_remote_code: received {trust_remote_code!r} for the model {name!r}. Accepted: the name of "
            "this model, since no other model's code is run. Make the two the same, or leave it out."
        )
    return trust_remote_code is not None


def trust_in(name: str, trust_remote_code: str | None, other: str | None) -> str | None:
    """Return `trust_remote_code` for the model or tokenizer `name`: None if it is the name of the `other` of the two.

    >>> trust_in("someone/model", "someone/words", "someone/words"), trust_in("someone/model", "someone/model", None)
    (None, 'someone/model')
    """
    return None if trust_remote_code == other and other != name else trust_remote_code


def require_name(trust_remote_code: str | None) -> None:
    """Raise ValueError for a switch instead of a model's name.

    >>> require_name("someone/model")
    """
    if str(trust_remote_code).lower() in _SWITCHES and trust_remote_code is not None:
        raise ValueError(
            f"trust_remote_code: received {trust_remote_code!r}. Accepted: the name of the one model whose code may be "
            "run on this machine. Read that code and pass --trust_remote_code NAME, or leave it out."
        )


def arguments(name: str, folder: Path, trust_remote_code: str | None, what: str = "model") -> dict[str, Any]:
    """Return the keyword arguments of `from_pretrained` that decide whether a model's own code is run.

    `what` is loaded: a `model`, or a `tokenizer` by itself.

    If transformers has the architecture, its own class is used, and the model needs no trust.

    Raises: ValueError for an untrusted model that needs its own code, or one that takes its code from another
    repository, and as `is_trusted`.
    """
    trusted = is_trusted(name, trust_remote_code)
    config = _read(folder / "config.json")
    maps = [config.get("auto_map"), _read(folder / "tokenizer_config.json").get("auto_map")]
    if not trusted:
        if _needs_code(config):
            raise refusal(name, what)
        return {"trust_remote_code": False}  # explicit: by default transformers asks on the terminal
    elsewhere = {place.split("--")[0] for place in _places(maps) if "--" in place} - {name}
    if elsewhere:
        raise ValueError(
            f"trust_remote_code: the model {name!r} takes its code from {', '.join(sorted(elsewhere))}. Accepted: code "
            "in the model's own repository. Copy the .py files there, and remove the part before -- from auto_map in "
            "its config.json."
        )
    # A hub snapshot is named after its commit; the code is taken from the same commit.
    snapshot = {"code_revision": folder.name} if folder.parent.name == "snapshots" else {}
    return {"trust_remote_code": True} | snapshot


def refusal(name: str, what: str = "model") -> ValueError:
    """Return the error for a model, or a tokenizer, that cannot be loaded without running its code."""
    return ValueError(
        f"{what}: {name!r} needs its own code, which would be run on this machine. Accepted: a {what} that "
        f"transformers supports without it. If you have read that code and trust it: --trust_remote_code {name}."
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
    """Return a JSON file's object; empty if it cannot be read, which transformers reports better."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
