"""A body's depth is told without parsing it, and never wrongly."""

from __future__ import annotations

import timeit
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain.json_depth import is_deeper

TEXT = st.text(st.sampled_from('[]{}"\\ aé,:'), max_size=6)
JSON = st.recursive(
    st.none() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=25,
)


def depth(value: Any) -> int:
    """By walking the parsed value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(JSON, st.integers(1, 8))
def test_it_agrees_with_the_parsed_value(value: Any, levels: int) -> None:
    """Whatever brackets, quotes and backslashes stand in texts and names."""
    assert is_deeper(orjson.dumps(value), levels) == (depth(value) > levels)
    assert is_deeper(orjson.dumps(value, option=orjson.OPT_INDENT_2), levels) == (depth(value) > levels)


@pytest.mark.parametrize("body", [b"", b'"', b'"\\', b"]]]]", b"{", b'"[[[[[[[[[[', b"\xff\xfe"])
def test_what_is_no_json_is_left_to_the_parser(body: bytes) -> None:
    """No exception, and not called deep when it is not."""
    assert not is_deeper(body, 12)


def test_a_hundred_thousand_brackets_are_deep() -> None:
    """Open ones alone, and closed ones."""
    assert is_deeper(b"[" * 100_000, 16)
    assert is_deeper(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 16)


def test_a_full_batch_costs_next_to_nothing() -> None:
    """Half a megabyte of events in well under the time of parsing it."""
    event = {
        "event_id": "0" * 32,
        "pins": {"platform_run_id": "r"},
        "payload": {f"field_{n}": "value" for n in range(14)},
    }
    body = orjson.dumps([event] * 1000)
    best = min(timeit.repeat(lambda: is_deeper(body, 16), number=1, repeat=20))
    parsed = min(timeit.repeat(lambda: orjson.loads(body), number=1, repeat=20))
    assert best < 2 * parsed
