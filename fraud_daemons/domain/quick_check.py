"""A first look at a flat object: True only when its JSON Schema admits it, at a fifth of the cost of the whole schema.

Made from the schema itself, for the few rules that ours use, as the source of one function without loops or calls; a
schema with another rule gets no quick check. False says nothing: the compiled schema decides then, and knows the reason.
Nearly every event is good, so nearly none gets there. Nothing but names and numbers of our own schema files is in the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[Any], bool]

_KNOWN: Final = {"type", "required", "properties", "additionalProperties", "title", "description", "$schema"}
_UNBOUNDED: Final = 1 << 62

Names = dict[str, Any]
"""What the source refers to by name: patterns, sets of texts, checks of objects within."""


def quick_check(schema: Mapping[str, Any]) -> Check | None:
    """The check of a schema, None when it has a rule that is not known here."""
    try:
        return _object(schema)
    except LookupError:
        return None


def _object(schema: Mapping[str, Any]) -> Check:
    if not _KNOWN.issuperset(schema) or schema.get("type") != "object":
        raise LookupError
    if schema.get("additionalProperties") is not False:
        raise LookupError
    required, names = set(schema["required"]), Names()
    must, may = [], []
    for name, told in schema["properties"].items():
        wrong = f"not ({_good(told, names)})"
        if name in required:
            must.append(f"    v = value[{name!r}]\n    if {wrong}: return False")
        else:
            may.append(
                f"  if {name!r} in value:\n    v = value[{name!r}]\n    if {wrong}: return False\n    fields += 1"
            )
    source = "\n".join(
        [
            "def check(value):",
            "  if value.__class__ is not dict: return False",
            "  try:",
            *(must or ["    pass"]),
            "  except KeyError: return False",
            f"  fields = {len(required)}",
            "  if len(value) == fields: return True",
            *may,
            "  return len(value) == fields",
        ]
    )
    exec(source, names)  # noqa: S102 - made above, of our own schema files
    check: Check = names["check"]
    return check


def _remembering(check: Check) -> Check:
    """The check of an object within another: events that come together have the same pins, and comparing is cheaper."""
    last: Any = None

    def same_or_good(value: Any) -> bool:
        nonlocal last
        if last is not None and value == last:
            return True
        if not check(value):
            return False
        last = value
        return True

    return same_or_good


def _good(told: Mapping[str, Any], names: Names) -> str:
    """The expression that is true of a good value `v`."""
    rules = set(told) - {"type", "description"}
    match told["type"]:
        case "object" if not rules:
            return "v.__class__ is dict"
        case "object":
            return f"{_named(names, _remembering(_object(told)))}(v)"
        case "boolean" if not rules:
            return "v.__class__ is bool"
        case "integer" if rules <= {"minimum", "maximum"}:
            return f"v.__class__ is int and {_between('v', told, 'minimum', 'maximum', -_UNBOUNDED)}"
        case "string" if rules == {"enum"}:
            return f"v.__class__ is str and v in {_named(names, frozenset(told['enum']))}"
        case "string" if rules == {"pattern"}:
            return f"v.__class__ is str and {_named(names, _pattern(told))}(v)"
        case ["string", "null"] if rules == {"pattern"}:
            return f"v is None or v.__class__ is str and {_named(names, _pattern(told))}(v)"
        case "string" if rules <= {"minLength", "maxLength"}:
            return f"v.__class__ is str and {_between('len(v)', told, 'minLength', 'maxLength', 0)}"
        case ["string", "null"] if rules <= {"minLength", "maxLength"}:
            return f"v is None or v.__class__ is str and {_between('len(v)', told, 'minLength', 'maxLength', 0)}"
    raise LookupError


def _between(what: str, told: Mapping[str, Any], low: str, high: str, lowest: int) -> str:
    return f"{int(told.get(low, lowest))} <= {what} <= {int(told.get(high, _UNBOUNDED))}"


def _named(names: Names, value: Any) -> str:
    """A name in the source for a value that has no literal there."""
    name = f"x{len(names)}"
    names[name] = value
    return name


def _pattern(told: Mapping[str, Any]) -> Callable[[str], object]:
    """As the compiled schema reads it: `$` is the very end, not before a last line feed."""
    return re.compile(told["pattern"].replace("$", r"\Z")).search
