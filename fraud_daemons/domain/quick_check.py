"""A first look at a flat object: True only when its JSON Schema admits it, at a third of the cost of the whole schema.

Made from the schema itself, for the few rules that ours use; a schema with another rule gets no quick check. False says
nothing: the compiled schema decides then, and knows the reason. Nearly every event is good, so nearly none gets there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[Any], bool]
Value = Callable[[Any], object]
"""What a field's value must make truthy."""

_KNOWN: Final = {"type", "required", "properties", "additionalProperties", "title", "description", "$schema"}
_UNBOUNDED: Final = 1 << 62


def quick_check(schema: Mapping[str, Any]) -> Check | None:
    """The check of a schema, None when it has a rule that is not known here."""
    try:
        return _object(schema)
    except LookupError:
        return None


def _object(schema: Mapping[str, Any]) -> Check:
    if not _KNOWN.issuperset(schema) or schema.get("type") != "object":
        raise LookupError
    if "properties" not in schema:
        return lambda value: value.__class__ is dict
    if schema.get("additionalProperties") is not False:
        raise LookupError
    required = set(schema["required"])
    texts, others, optional = [], [], []
    for name, told in schema["properties"].items():
        if name not in required:
            optional.append((name, _value(told)))
        elif (limits := _text_limits(told)) is not None:
            texts.append((name, *limits))
        else:
            others.append((name, _value(told)))
    fields = len(required)

    def check(value: Any) -> bool:
        if value.__class__ is not dict:
            return False
        try:
            for name, low, high, nullable in texts:
                text = value[name]
                if text.__class__ is str:
                    if not low <= len(text) <= high:
                        return False
                elif text is not None or not nullable:
                    return False
            for name, good in others:
                if not good(value[name]):
                    return False
        except KeyError:
            return False
        if len(value) == fields:
            return True
        present = [good for name, good in optional if name in value and good(value[name])]
        return len(value) == fields + len(present)

    return check


def _text_limits(told: Mapping[str, Any]) -> tuple[int, int, bool] | None:
    """(shortest, longest, may be null) of a text without any other rule."""
    if told["type"] not in ("string", ["string", "null"]) or not set(told) <= {
        "type", "minLength", "maxLength", "description",
    }:  # fmt: skip
        return None
    return told.get("minLength", 0), told.get("maxLength", _UNBOUNDED), told["type"] != "string"


def _value(told: Mapping[str, Any]) -> Value:
    """The check of one value. Raises LookupError for a rule that is not known."""
    rules = set(told) - {"type", "description"}
    match told["type"]:
        case "object":
            return _object(told)
        case "boolean" if not rules:
            return lambda value: value.__class__ is bool
        case "integer" if rules <= {"minimum", "maximum"}:
            low, high = told.get("minimum", -_UNBOUNDED), told.get("maximum", _UNBOUNDED)
            return lambda value: value.__class__ is int and low <= value <= high
        case "string" if rules == {"enum"}:
            allowed = frozenset(told["enum"])
            return lambda value: value.__class__ is str and value in allowed
        case "string" if rules == {"pattern"}:
            search = _pattern(told)
            return lambda value: value.__class__ is str and search(value)
        case ["string", "null"] if rules == {"pattern"}:
            search = _pattern(told)
            return lambda value: value is None or (value.__class__ is str and search(value))
        case "string" | ["string", "null"] if (limits := _text_limits(told)) is not None:
            low, high, nullable = limits
            return lambda value: nullable if value is None else value.__class__ is str and low <= len(value) <= high
    raise LookupError


def _pattern(told: Mapping[str, Any]) -> Callable[[str], object]:
    """As the compiled schema reads it: `$` is the very end, not before a last line feed."""
    return re.compile(told["pattern"].replace("$", r"\Z")).search
