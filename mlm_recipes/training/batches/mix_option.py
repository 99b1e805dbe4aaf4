"""`mix`: which texts are blended into training, and the share of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...data.mixed_rows import check_shares
from ...sources.credentials import without_credentials

#: Stands for the run's `general_corpus`.
GENERAL = "general"


def mix_option(value: Any) -> dict[str, float] | None:
    """Return the share of each text by its name, however it was written; None if nothing is mixed in.

    Raises: ValueError for anything but names with a number each.

    >>> mix_option({"general": "0.1"}), mix_option(["general=0.1", "notes.txt=0.2"]), mix_option("none")
    ({'general': 0.1}, {'general': 0.1, 'notes.txt': 0.2}, None)
    """
    found: Any = value
    if isinstance(found, str) and found.lstrip().startswith("{"):
        try:
            found = json.loads(found)
        except ValueError:
            raise _refused(value) from None
    if found is None or (isinstance(found, str) and found.lower() in ("none", "")):
        return None
    words = [found] if isinstance(found, str) else found
    if isinstance(words, list | tuple):
        if not all(isinstance(word, str) for word in words):
            raise _refused(value)
        pairs = [word.rpartition("=")[::2] for word in words]
    elif isinstance(words, Mapping):
        pairs = [*words.items()]
    else:
        raise _refused(value)
    try:
        shares = {str(name): float(share) for name, share in pairs}
    except (TypeError, ValueError):
        raise _refused(value) from None
    if len(shares) < len(pairs) or "" in shares:
        raise _refused(value)
    return shares or None


def check_mix(config: Any) -> None:
    """Raise ValueError for shares out of range, and for a mixture that a run with these values cannot have."""
    mix = mix_option(config.mix)  # what is set later may be written in any way
    if mix is None:
        return
    check_shares(mix)
    if config.streaming:
        raise ValueError(
            f"mix: received {without_credentials(str(mix))} with streaming. Accepted: none, since it is unknown how "
            "many rows of a stream make up the rest of the tokens. Leave one of them out, or add the texts to the "
            "stream."
        )
    general = config.general_corpus
    if GENERAL in mix and general.lower() == "none":
        raise ValueError(
            f"mix: received {GENERAL!r}, the general_corpus, with general_corpus 'none'. Accepted: a general_corpus, "
            "or another text's name. Pass --general_corpus FILE, or --mix FILE=0.1."
        )
    if {GENERAL, general} <= mix.keys():
        raise ValueError(
            f"mix: received both {GENERAL!r} and {without_credentials(general)!r}, which are the same text. Accepted: "
            "one of them. Leave out the second."
        )
    if "-" in mix:
        raise ValueError(
            "mix: received '-', standard input. Accepted: a known corpus, a file, a folder, a URL or a hub id. Write "
            "the text to a file, and name that."
        )


def mixes_general(config: Any) -> bool:
    """Tell whether the text that shows what was forgotten is also mixed in, so that it has to be divided."""
    return bool({GENERAL, config.general_corpus} & (config.mix or {}).keys())


def _refused(value: Any) -> ValueError:
    return ValueError(
        f"mix: received {without_credentials(repr(value))}. Accepted: names of texts, each once, with the share "
        "of the training tokens that they are to have, such as --mix general=0.1 notes.txt=0.2, in YAML and Python "
        "{general: 0.1}; or none. Write it so."
    )
