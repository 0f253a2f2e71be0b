"""The conditions of a policy's rules: which fields they may read, how they are checked and compiled.

A compiled condition maps facts to True, False or None (unknown: something it needs is absent), by three-valued logic.
Checking finds every problem of a condition, among them comparisons that can never hold together.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any, Final

from fraud_daemons.domain.features import FEATURE_NAMES

Facts = Mapping[str, Any]
"""Field -> value; a field that is missing or None is absent."""

Test = Callable[[Facts], bool | None]


class Kind(StrEnum):
    """What a field holds."""

    NUMBER = "number"
    TEXT = "text"


_CHOICES: Final = {
    "context_status": ("COMPLETE", "PARTIAL", "MISSING"),
    "feature_status": ("PRESENT", "ABSENT"),
}
_TEXT_FIELDS: Final = (
    *_CHOICES,
    "currency", "message_type", "processing_code",
    "channel", "pos_entry_mode", "mcc", "merchant_name", "country", "state", "postal_code",
    "card_token", "party_id", "account_id", "device_id", "ip", "terminal_id", "merchant_id",
)  # fmt: skip

FEATURE_FIELDS: Final = frozenset(FEATURE_NAMES) - {"amount_minor"}
"""Fields that need the feature vector; the amount is known without it."""

FIELDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(_TEXT_FIELDS, Kind.TEXT),
    **dict.fromkeys(("amount_minor", "hour_utc"), Kind.NUMBER),
    **dict.fromkeys(sorted(FEATURE_FIELDS), Kind.NUMBER),
}

LABEL_FIELDS: Final = frozenset(
    {
        "fraud", "is_fraud", "tx_fraud", "tx_fraud_scenario", "fraud_type", "fraud_scenario",
        "truth", "label", "labels", "disposition", "fraud_disposition", "chargeback_status", "account_takeover",
        "observed_at", "observed_time",
    }
)  # fmt: skip
"""What no decision may read, refused by name so that the message can say why."""

_ORDERING: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUALITY: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"==": operator.eq, "!=": operator.ne}
_MEMBERSHIP: Final = ("in", "not_in")
OPS: Final = (*_EQUALITY, *_ORDERING, *_MEMBERSHIP, "starts_with", "present")
DEPTH_MAX: Final = 8
NUMBER_MAX: Final = 2**53  # whole numbers beyond it are no longer exact as JSON numbers; also refuses inf and nan


@dataclass(frozen=True, slots=True)
class Compiled:
    """A checked condition: its test and the fields it reads."""

    holds: Test
    fields: frozenset[str]

    @property
    def requires_features(self) -> bool:
        """True when it reads the feature vector."""
        return bool(self.fields & FEATURE_FIELDS)


def compile_condition(condition: Any, lists: Mapping[str, frozenset[str]], problems: list[str]) -> Compiled:
    """The condition compiled; what is wrong is appended to `problems`, and the result then never fires."""
    before = len(problems)
    fields: set[str] = set()
    holds = _compile(condition, lists, fields, problems, depth=1)
    if len(problems) == before:
        problems += [f"can never fire: {clash}" for clash in _contradictions(condition, lists)]
    return Compiled(holds, frozenset(fields))


def _never(_: Facts) -> bool | None:
    return None


def _compile(
    condition: Any, lists: Mapping[str, frozenset[str]], fields: set[str], problems: list[str], depth: int
) -> Test:
    match condition:
        case _ if depth > DEPTH_MAX:
            problems.append(f"condition is nested deeper than {DEPTH_MAX}")
            return _never
        case {"all": [_, *_] as parts, **rest} if not rest:
            return _all_of([_compile(part, lists, fields, problems, depth + 1) for part in parts])
        case {"any": [_, *_] as parts, **rest} if not rest:
            return _any_of([_compile(part, lists, fields, problems, depth + 1) for part in parts])
        case {"not": part, **rest} if not rest:
            return _negation(_compile(part, lists, fields, problems, depth + 1))
        case {"field": str(), "op": str()}:
            return _comparison(condition, lists, fields, problems)
    problems.append("a condition is {all = [...]}, {any = [...]}, {not = {...}} or {field, op, value}, none empty")
    return _never


def _all_of(tests: list[Test]) -> Test:
    def holds(facts: Facts) -> bool | None:
        answer: bool | None = True
        for test in tests:
            part = test(facts)
            if part is False:
                return False
            if part is None:
                answer = None
        return answer

    return holds


def _any_of(tests: list[Test]) -> Test:
    def holds(facts: Facts) -> bool | None:
        answer: bool | None = False
        for test in tests:
            part = test(facts)
            if part is True:
                return True
            if part is None:
                answer = None
        return answer

    return holds


def _negation(test: Test) -> Test:
    def holds(facts: Facts) -> bool | None:
        part = test(facts)
        return None if part is None else not part

    return holds


def _comparison(
    leaf: Mapping[str, Any], lists: Mapping[str, frozenset[str]], fields: set[str], problems: list[str]
) -> Test:
    before = len(problems)
    problems += [f"unknown key {key!r} in a comparison" for key in leaf if key not in _LEAF_KEYS]
    name, op, over = leaf["field"], leaf["op"], leaf.get("over")
    kind = _known_field(name, fields, problems)
    if op not in OPS:
        problems.append(f"unknown op {op!r}; known are {', '.join(OPS)}")
    if over is not None and _known_field(over, fields, problems) is Kind.TEXT:
        problems.append(f"over: {over!r} is text; a ratio needs numbers")
    if len(problems) == before and kind is not None:
        _check_operand(leaf, kind, lists, problems)
    if len(problems) > before:
        return _never
    return _leaf_test(name, op, over, _operand(leaf, lists))


_LEAF_KEYS: Final = {"field", "op", "value", "list", "over"}


def _known_field(name: Any, fields: set[str], problems: list[str]) -> Kind | None:
    if not isinstance(name, str):
        problems.append(f"{name!r} is not the name of a field")
        return None
    if name.lower() in LABEL_FIELDS or name.lower().startswith(("label", "truth")):
        problems.append(f"field {name!r} is a label; no decision may read a label")
        return None
    if name not in FIELDS:
        problems.append(f"unknown field {name!r}")
        return None
    fields.add(name)
    return FIELDS[name]


def _check_operand(
    leaf: Mapping[str, Any], kind: Kind, lists: Mapping[str, frozenset[str]], problems: list[str]
) -> None:
    """What stands on the right must fit the field's kind and the op."""
    name, op = leaf["field"], leaf["op"]
    if ("value" in leaf) == ("list" in leaf):
        problems.append(f"field {name!r}: give either value or list")
    elif op == "present":
        if not isinstance(leaf.get("value"), bool) or name in FEATURE_FIELDS or "over" in leaf:
            problems.append(f"field {name!r}: op 'present' takes value = true or false, of one field, not a feature")
    elif "list" in leaf:
        if op not in _MEMBERSHIP or kind is not Kind.TEXT:
            problems.append(f"field {name!r}: list goes with a text field and op in or not_in")
        elif leaf["list"] not in lists:
            problems.append(f"unknown list {leaf['list']!r}")
    else:
        problems += _value_problems(name, op, kind, leaf["value"], "over" in leaf)


def _value_problems(name: str, op: str, kind: Kind, value: Any, is_ratio: bool) -> Iterator[str]:
    if kind is Kind.TEXT and (op in _ORDERING or is_ratio):
        yield f"field {name!r} is text and cannot be ordered or divided; op {op!r} needs a number"
        return
    if kind is Kind.NUMBER and op == "starts_with":
        yield f"field {name!r} is a number; op 'starts_with' needs text"
        return
    if op in _MEMBERSHIP and not (isinstance(value, list) and value):
        yield f"field {name!r}: op {op!r} needs a non-empty list of values"
        return
    for item in value if op in _MEMBERSHIP else [value]:
        if kind is Kind.TEXT and not isinstance(item, str):
            yield f"field {name!r} is text, {item!r} is not"
        elif kind is Kind.NUMBER and not _is_number(item):
            yield f"field {name!r} is a number, {item!r} is not"
        elif name in _CHOICES and op != "starts_with" and item not in _CHOICES[name]:
            yield f"field {name!r} is one of {', '.join(_CHOICES[name])}, never {item!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= NUMBER_MAX


def _operand(leaf: Mapping[str, Any], lists: Mapping[str, frozenset[str]]) -> Any:
    if "list" in leaf:
        return lists[leaf["list"]]
    value = leaf["value"]
    return frozenset(value) if isinstance(value, list) else value


def _leaf_test(name: str, op: str, over: str | None, operand: Any) -> Test:
    if op == "present":
        return lambda facts: (facts.get(name) is not None) is operand
    compare = _comparator(op)
    if over is None:

        def holds(facts: Facts) -> bool | None:
            value = facts.get(name)
            return None if value is None else compare(value, operand)

        return holds

    def ratio_holds(facts: Facts) -> bool | None:
        value, base = facts.get(name), facts.get(over)
        return None if value is None or not base else compare(value / base, operand)

    return ratio_holds


def _comparator(op: str) -> Callable[[Any, Any], bool]:
    if op == "in":
        return lambda value, members: value in members
    if op == "not_in":
        return lambda value, members: value not in members
    if op == "starts_with":
        return lambda value, prefix: bool(value.startswith(prefix))
    return _ORDERING.get(op) or _EQUALITY[op]


def allowed_values(leaf: Mapping[str, Any], lists: Mapping[str, frozenset[str]]) -> frozenset[Any] | None:
    """The only values with which a checked `==` or `in` holds; None for any other comparison."""
    if leaf["op"] not in ("==", "in"):
        return None
    operand = _operand(leaf, lists)
    return operand if leaf["op"] == "in" else frozenset({operand})


def satisfied_by(leaf: Mapping[str, Any], lists: Mapping[str, frozenset[str]], value: Any) -> bool:
    """Whether a checked comparison holds for one value of its field, or of its ratio."""
    return leaf["op"] == "present" or _comparator(leaf["op"])(value, _operand(leaf, lists))


# --- conditions that contradict themselves


def _contradictions(condition: Mapping[str, Any], lists: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Pairs within one conjunction that cannot hold together: an empty interval, or no value left to be equal to.

    An `any` is reported when each of its branches is impossible; below a `not` nothing is judged.
    """
    leaves = list(_conjuncts(condition))
    places = {(leaf["field"], leaf.get("over")) for leaf in leaves if "field" in leaf}
    for name, over in sorted(places, key=str):
        about = [leaf for leaf in leaves if leaf.get("field") == name and leaf.get("over") == over]
        if _is_impossible(about, lists):
            yield f"what it asks of {name!r}{f' over {over!r}' if over else ''} cannot hold together"
    for branches in (leaf["any"] for leaf in leaves if "any" in leaf):
        clashes = [next(_contradictions(branch, lists), None) for branch in branches]
        if all(clashes):
            yield str(clashes[0])


def _conjuncts(condition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "all" in condition:
        for part in condition["all"]:
            yield from _conjuncts(part)
    else:
        yield condition


def _is_impossible(leaves: list[Mapping[str, Any]], lists: Mapping[str, frozenset[str]]) -> bool:
    low, high, open_low, open_high = -inf, inf, False, False
    allowed: frozenset[Any] | None = None
    refused: set[Any] = set()
    presence = {leaf["value"] for leaf in leaves if leaf["op"] == "present"}
    compares = any(leaf["op"] != "present" for leaf in leaves)
    for leaf in leaves:
        operand = _operand(leaf, lists)
        match leaf["op"]:
            case ">" | ">=" as op if operand > low or (operand == low and op == ">"):
                low, open_low = operand, op == ">"
            case "<" | "<=" as op if operand < high or (operand == high and op == "<"):
                high, open_high = operand, op == "<"
            case "==" | "in" as op:
                members = operand if op == "in" else frozenset({operand})
                allowed = members if allowed is None else allowed & members
            case "!=" | "not_in" as op:
                refused |= operand if op == "not_in" else {operand}
    if len(presence) == 2 or (False in presence and compares):
        return True
    if low > high or (low == high and (open_low or open_high)):
        return True
    if allowed is None:
        return False

    def fits(value: Any) -> bool:
        if value in refused:
            return False
        if isinstance(value, str):
            return True
        return (low < value or (low == value and not open_low)) and (value < high or (value == high and not open_high))

    return not any(fits(value) for value in allowed)
