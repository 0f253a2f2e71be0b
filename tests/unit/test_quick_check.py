"""The first look at an event never admits what its schema refuses, and admits what our own producer makes."""

from __future__ import annotations

import copy
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.domain.quick_check import quick_check
from fraud_daemons.domain.schemas import load_schema
from tests.unit.test_schemas import PAYLOADS, event, mark

SCHEMAS = ("envelope", *EVENT_TYPES)
VALUES = (
    st.none() | st.booleans() | st.integers(-2, 2**63) | st.floats() | st.text(max_size=3) | st.just({})
    | st.sampled_from(["0100", "9999", "USD", "USD\n", "a" * 32, "a" * 32 + "\n", "x" * 64, "x" * 65, "x" * 129, "840", "5411",
                       "2018-07-18T00:00:27.000000Z", "traffic", "max_events", 1.0, True, 0, 1, 2**62, 2**62 + 1])
)  # fmt: skip


def good(name: str) -> dict[str, Any]:
    """What the schema of that name is about, valid."""
    if name == "envelope":
        return event()
    payload: dict[str, Any] = copy.deepcopy(mark()["payload"] if name == "progress_mark" else PAYLOADS[name])
    return payload


COMPILED = {name: fastjsonschema.compile(load_schema(name), use_default=False) for name in SCHEMAS}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_has_a_quick_check_that_admits_the_good(name: str) -> None:
    """None falls back for a good event: the speed of the gate rests on it."""
    check = quick_check(load_schema(name))
    assert check is not None
    assert check(good(name))
    if name == "traffic":
        assert check(good(name) | {"stan": "000123", "processing_code": None})


@given(name=st.sampled_from(SCHEMAS), data=st.data())
def test_it_never_admits_what_the_schema_refuses(name: str, data: st.DataObject) -> None:
    """Values changed, taken away and added, and things that are no object at all."""
    value: Any = good(name)
    schema = load_schema(name)
    for _ in range(data.draw(st.integers(0, 2))):
        field = data.draw(st.sampled_from([*schema["properties"], "colour"]))
        if data.draw(st.booleans()):
            value[field] = data.draw(VALUES)
        else:
            value.pop(field, None)
    if data.draw(st.integers(0, 20)) == 0:
        value = data.draw(VALUES)
    check = quick_check(schema)
    assert check is not None
    if check(value):
        COMPILED[name](value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "properties": {}, "required": []},
        {"type": "object", "properties": {"a": {"type": "number"}}, "required": [], "additionalProperties": False},
        {
            "type": "object",
            "properties": {"a": {"type": "string", "format": "date"}},
            "required": ["a"],
            "additionalProperties": False,
        },
        {"type": "object", "oneOf": []},
    ],
)
def test_a_rule_it_does_not_know_gives_no_quick_check(schema: dict[str, Any]) -> None:
    """Then the compiled schema decides alone."""
    assert quick_check(schema) is None
