"""Where a number is a card number, and what is left of a refused event that held one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain.card_numbers import holds_pan, looks_like_pan, without_long_numbers, without_pans

PAN = "4111111111111111"


@pytest.mark.parametrize(
    "text",
    [PAN, "4111 1111 1111 1111", "4111-1111-1111-1111", f"PAN:{PAN}", f"tok_{PAN}", f";{PAN}=25121010000012345678?",
     f"%B{PAN}^DOE/JOHN^2512101", f"{PAN}D2512101", f"2026-01-01 {PAN}", "378282246310005"],
)  # fmt: skip
def test_a_number_in_a_card_field_is_seen_however_it_is_dressed(text: str) -> None:
    """Alone, grouped, behind a name, and as track 1 or 2."""
    assert holds_pan(text)


@pytest.mark.parametrize(
    "text",
    [None, "", "tok_1", "4111111111111112", "3f9a4111111111111111c", "hb-card-4963", "4" * 20,
     "550e8400-e29b-41d4-a716-446655440000", "pc-card-dcb1d5051b9ae5f6738bf59a4f51499a"],
)  # fmt: skip
def test_tokens_are_no_card_numbers(text: str | None) -> None:
    """Short ones, failing check digits, digits inside a longer token: a random token is not refused by chance."""
    assert not holds_pan(text)


@pytest.mark.parametrize(
    "event",
    [
        {"payload": {"card_token": PAN}},
        {"payload": {"card": {"number": [int(PAN)]}}},
        {"payload": {"PanNumber": float(PAN)}},
        {"payload": {"track2": f"{PAN}D2512"}},
        {"payload": {"x": {PAN: 1}}},
        {"payload": {f"pan{PAN}": 1}},
        [PAN],
        PAN,
        int(PAN),
    ],
)
def test_what_is_kept_of_a_refused_event_holds_no_card_number(event: Any) -> None:
    """As text, as a number, nested, as a name, or where there is no field at all; the rest stays as it was."""
    for raw in (None, orjson.dumps(event)):
        kept = without_pans(event, raw)
        assert PAN.encode() not in kept
        assert b"removed" in kept


def test_a_verification_code_is_never_kept() -> None:
    """Three digits in a field that says so are removed whatever they are."""
    assert orjson.loads(without_pans({"cvv": "123", "pin": "0000", "state": "OK"}, None)) == {
        "cvv": {"removed": "card number"}, "pin": {"removed": "card number"}, "state": "OK",
    }  # fmt: skip


def test_a_name_that_comes_twice_hides_nothing() -> None:
    """A reader sees the last value; the first one is looked at too."""
    raw = b'{"card_token": "%s", "card_token": "tok"}' % PAN.encode()
    assert without_pans(orjson.loads(raw), raw) == b'{"card_token":"tok"}'


def test_fields_decide_not_digits() -> None:
    """The same number is kept where no card is named, byte for byte as it came."""
    raw = b'{"merchant_id":  "%s", "terminal_id": %s}' % (PAN.encode(), PAN.encode())
    assert without_pans(orjson.loads(raw), raw) == raw


def test_in_a_line_that_is_no_json_every_long_number_goes() -> None:
    """No field can be read there."""
    kept = without_long_numbers(b'{"card_token": "4111 1111-1111 1111", "merchant_id": 6011000990139424, "n": 17')
    assert kept == b'{"card_token": "[card number removed]", "merchant_id": [card number removed], "n": 17'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.just(PAN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["card", "a", "pan", PAN]), inner),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_any_json_is_cleaned_and_cleaning_again_changes_nothing(value: Any) -> None:
    """No value makes it fail, and what it made is clean."""
    event = {"card_number": value}
    kept = without_pans(event, orjson.dumps(event))
    assert PAN.encode() not in kept
    assert without_pans(orjson.loads(kept), kept) == kept
    assert looks_like_pan(PAN)
