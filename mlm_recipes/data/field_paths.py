"""Fields within the fields of a row: what stands at a dotted path, and the paths of a row's strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: What `value_at` returns if a row has no such field.
MISSING: Any = object()


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Return what a row has at a path such as `data.paragraphs.context`; `MISSING` if it has no such field.

    A name that itself contains dots takes precedence over a path. A list on the way is walked: the value is then the
    list of what its items have there.

    >>> value_at({"qas": [{"q": "who?"}, {"q": "why?"}]}, "qas.q"), value_at({"qas.q": "literally"}, "qas.q")
    (['who?', 'why?'], 'literally')
    """
    return row[path] if path in row else _at(row, path.split("."))


def _at(value: Any, parts: Sequence[str]) -> Any:
    if isinstance(value, list | tuple):
        found = [at for item in value if (at := _at(item, parts)) is not MISSING]
        return found if found or not value else MISSING
    if not parts or value is None:
        return value
    if not isinstance(value, Mapping):
        return MISSING
    for number in range(len(parts), 0, -1):  # the longest name first
        name = ".".join(parts[:number])
        if name in value:
            return _at(value[name], parts[number:])
    return MISSING


def items_of(value: Any) -> Iterator[Any]:
    """Yield the items of a list, also of lists in it; anything else is its own only item.

    >>> list(items_of(["a", ["b", None]])), list(items_of("a"))
    (['a', 'b', None], ['a'])
    """
    if isinstance(value, list | tuple):
        for item in value:
            yield from items_of(item)
    else:
        yield value


def strings_in(value: Any, path: str = "") -> Iterator[tuple[str, str, bool]]:
    """Yield the strings in a row, each with its path, and whether it is an item of a list of strings.

    >>> list(strings_in({"id": "a", "n": 1, "data": {"words": ["to", "be"]}}))
    [('id', 'a', False), ('data.words', 'to', True), ('data.words', 'be', True)]
    """
    for name, field in value.items():
        yield from _strings(field, f"{path}{name}")


def _strings(field: Any, path: str, listed: bool = False) -> Iterator[tuple[str, str, bool]]:
    if isinstance(field, str):
        yield path, field, listed
    elif isinstance(field, Mapping):
        yield from strings_in(field, f"{path}.")
    elif isinstance(field, list | tuple):
        for item in field:
            yield from _strings(item, path, True)
