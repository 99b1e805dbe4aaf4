"""The JSON schema of metrics.json, generated from its types: `python tests/metrics_schema.py` writes it into docs/."""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import jsonschema
from typing_extensions import NotRequired, get_type_hints, is_typeddict

from mlm_recipes import metrics_file

PATH = Path(__file__).parent.parent / "docs/metrics.schema.json"

_PLAIN = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    object: {},
}


def schema() -> dict[str, Any]:
    """Return the schema of metrics.json; `$defs` has every type in it, and what `evaluate` returns."""
    definitions: dict[str, Any] = {}
    for kind in (metrics_file.Metrics, metrics_file.EvaluationMetrics):
        _schema_of(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "metrics.json of mlm-recipes",
        "$ref": "#/$defs/Metrics",
        "$defs": dict(sorted(definitions.items())),
    }


def check(metrics: Mapping[str, Any], kind: str = "Metrics") -> None:
    """Raise jsonschema.ValidationError for metrics that, as JSON, are not what the committed schema says."""
    _validator(kind).validate(json.loads(json.dumps(metrics, allow_nan=False)))


@functools.cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    committed = json.loads(PATH.read_text("utf-8")) | {"$ref": f"#/$defs/{kind}"}
    jsonschema.Draft202012Validator.check_schema(committed)
    return jsonschema.Draft202012Validator(committed)


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if is_typeddict(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # what lies within may name it
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        either = [_schema_of(each, definitions) for each in arguments]
        if all(each.keys() == {"type"} for each in either):
            return {"type": [each["type"] for each in either]}
        return {"anyOf": either}
    if origin is list:
        return {"type": "array", "items": _schema_of(arguments[0], definitions)}
    if origin is tuple:
        items = [_schema_of(each, definitions) for each in arguments]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], definitions)}
    raise TypeError(f"{kind!r} has no place in metrics.json yet: say here what it is in JSON.")


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind, localns={"NotRequired": NotRequired}, include_extras=True)
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    found = {
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": {
            name: _schema_of(get_args(hint)[0] if name in optional else hint, definitions)
            for name, hint in hints.items()
        },
        "required": [name for name in hints if name not in optional],
        "additionalProperties": False,
    }
    if metrics_file.FilesRead.__annotations__.keys() <= hints.keys():
        found["patternProperties"] = {f"^{metrics_file.TEXT_COLUMN}": {"type": "integer"}}
    return found


def text() -> str:
    """Return the contents of docs/metrics.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
