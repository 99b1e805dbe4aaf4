"""The types that a value of MLMConfig may have, and how a word of the command line becomes one of them.

transformers' parser knows one type per field. Many fields have several: `fsdp` is a switch or a string, `report_to` one
name or a list, `fsdp_config` a file or an object.
"""

from __future__ import annotations

import argparse
import json
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..training.config import MLMConfig

#: Types that transformers accepts although they are missing from the field's annotation.
_ALSO: dict[str, tuple[Any, ...]] = {"fsdp": (bool,)}

_SWITCH = {"true": True, "yes": True, "false": False, "no": False}


@cache
def types_of(name: str) -> tuple[Any, ...]:
    """Return the types that a value may have.

    >>> types_of("seed"), types_of("fsdp")
    ((<class 'int'>,), (<class 'str'>, <class 'NoneType'>, <class 'bool'>))
    """
    annotated = get_type_hints(MLMConfig)[name]
    found = get_args(annotated) if get_origin(annotated) in (Union, UnionType) else (annotated,)
    return (*found, *_ALSO.get(name, ()))


def fits(value: Any, name: str) -> bool:
    """Tell whether a value already has one of its types, none of which may be an enumeration.

    >>> fits(3, "seed"), fits(3, "learning_rate"), fits(True, "seed"), fits(True, "fsdp"), fits(["a"], "report_to")
    (True, False, False, True, True)
    """
    return type(value) in _plain(name) and not any(issubclass(each, Enum) for each in _plain(name))


def parser_options(name: str) -> dict[str, Any]:
    """Return the keyword arguments of `add_argument` that transformers' parser lacks for a value of several types.

    A switch needs no word after it, a list takes several, and an object is JSON.

    >>> parser_options("seed"), sorted(parser_options("fsdp")), parser_options("report_to")["nargs"]
    ({}, ['const', 'nargs', 'type'], '+')
    """
    plain = set(_plain(name)) - {type(None)}
    if any(issubclass(each, Enum) for each in plain) or (len(plain) == 1 and not plain & {bool, dict}):
        return {}
    if plain == {bool}:  # transformers reads the word after it
        return {"nargs": "?", "const": True} if type(None) in _plain(name) else {}

    def read(word: str) -> Any:
        return _read(word, plain)

    if bool in types_of(name):
        return {"type": read, "nargs": "?", "const": True}
    if list in plain:
        return {"type": read, "nargs": "+", "action": _OneOrMore}
    return {"type": read}


class _OneOrMore(argparse.Action):
    """Keep several words as a list, and a single one as it is."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, values[0] if isinstance(values, list) and len(values) == 1 else values)


def _read(word: str, plain: set[type]) -> Any:
    if bool in plain and word.lower() in _SWITCH:
        return _SWITCH[word.lower()]
    if dict in plain and word.lstrip().startswith("{"):
        try:
            found = json.loads(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"invalid JSON value: {word!r} ({error})") from error
        return word if str in plain else found  # transformers reads the text itself, and makes numbers of its strings
    if str not in plain:
        raise argparse.ArgumentTypeError(f"invalid JSON value: {word!r}")
    return word


def _plain(name: str) -> tuple[type, ...]:
    """Return the types of a value without their parameters; of literals, the types of the literals."""
    found: list[type] = []
    for each in types_of(name):
        if get_origin(each) is Literal:
            found += [type(value) for value in get_args(each)]
        else:
            found.append(get_origin(each) or each)
    return tuple(found)
