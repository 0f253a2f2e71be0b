"""What the gate lets in, and the reason code and field of each refusal."""

from __future__ import annotations

import copy
import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain import schemas
from fraud_daemons.domain.card_numbers import looks_like_pan
from fraud_daemons.domain.envelope import EVENT_TYPES, make_event, make_mark
from fraud_daemons.domain.schemas import ReasonCode, validate_event

PLACE = {"merchant_id": "m1", "terminal_id": None, "arrival_seq": 3}
WHO = {"party_id": "p", "account_id": None, "card_token": "tok_1", "device_id": None, "ip": None}
WHERE = {
    "channel": "ECOM", "pos_entry_mode": "812", "mcc": "5411", "merchant_name": "Zoë's Café",
    "country": "US", "state": None, "postal_code": None,
}  # fmt: skip
TIME = "2018-07-18T00:00:27.000000Z"
PAYLOADS: dict[str, dict[str, Any]] = {
    "traffic": {"flow_id": "f1", "amount_minor": 1, "currency": "USD", "message_type": "0100"},
    "arrival_events": {**PLACE, **WHERE},
    "arrival_entities": {**PLACE, **WHO},
    "flow_anchors": {"flow_id": "f1", **PLACE, **WHO},
    "truth": {
        "flow_id": "f1", "fraud": True, "fraud_type": "CNPA", "effective_time": TIME, "source_ref": None, "correction": 0,
    },
}  # fmt: skip
PINS = {"platform_run_id": "platform_20260101T000000Z", "scenario_run_id": "a" * 32, "world": "demo"}


def event(event_type: str = "traffic", /, **payload: Any) -> dict[str, Any]:
    return make_event(
        event_type=event_type,
        payload={**copy.deepcopy(PAYLOADS[event_type]), **payload},
        occurred_at=TIME,
        source_seq=17,
        producer="world_stream_producer",
        **PINS,
    )


def mark() -> dict[str, Any]:
    return make_mark(
        output="traffic", up_to=(TIME, 17), end_of_world=False, stop_reason="max_events", producer="w", **PINS
    )


def code(made: Any) -> tuple[str, str] | None:
    rejection = validate_event(made, currency="USD")
    return None if rejection is None else (str(rejection.code), rejection.detail)


def test_every_event_type_has_a_schema_and_a_valid_example() -> None:
    """What our own envelope module makes, the gate admits."""
    assert [code(event(event_type)) for event_type in PAYLOADS] == [None] * 5
    assert code(mark()) is None
    assert {*PAYLOADS, "progress_mark"} == set(EVENT_TYPES)


def test_the_optional_fields_of_traffic_may_be_absent_null_or_filled() -> None:
    """Three DE fields are optional, everything else of a payload must have its key."""
    assert code(event(processing_code="000000", stan="000123", retrieval_reference="123456789012")) is None
    assert code(event(processing_code=None, stan=None, retrieval_reference=None)) is None
    without = event("arrival_events")
    del without["payload"]["mcc"]
    assert code(without) == ("SCHEMA_FAIL", "payload must contain ['mcc'] properties")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"amount_minor": -5}, "payload.amount_minor"),
        ({"amount_minor": 1.0}, "payload.amount_minor"),
        ({"amount_minor": True}, "payload.amount_minor"),
        ({"amount_minor": 10**12 + 1}, "payload.amount_minor"),
        ({"currency": "usd"}, "payload.currency"),
        ({"message_type": "9999"}, "payload.message_type"),
        ({"flow_id": ""}, "payload.flow_id"),
        ({"flow_id": "f" * 65}, "payload.flow_id"),
        ({"flow_id": "a\x00b"}, "payload.flow_id"),
        ({"card_token": "c1"}, "card_token"),
        ({"fraud": True}, "fraud"),
    ],
)
def test_a_bad_payload_is_refused_by_field(payload: dict[str, Any], field: str) -> None:
    """SCHEMA_FAIL names the field; entity ids and truth cannot travel with the traffic."""
    found = code(event(**payload))
    assert found is not None
    assert found[0] == "SCHEMA_FAIL"
    assert field in found[1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event_id": "xyz"}, "ENVELOPE_INVALID"),
        ({"occurred_at": "2018-07-18T00:00:27Z"}, "ENVELOPE_INVALID"),
        ({"occurred_at": "2018-07-18T00:00:27.000000+00:00"}, "ENVELOPE_INVALID"),
        ({"occurred_at": "2018-02-31T00:00:27.000000Z"}, "ENVELOPE_INVALID"),
        ({"source_seq": -1}, "ENVELOPE_INVALID"),
        ({"source_seq": 1.0}, "ENVELOPE_INVALID"),
        ({"payload": []}, "ENVELOPE_INVALID"),
        ({"producer": "a\nb"}, "ENVELOPE_INVALID"),
        ({"surplus": 1}, "ENVELOPE_INVALID"),
        ({"event_type": "gossip"}, "EVENT_TYPE_UNKNOWN"),
        ({"event_type": ["traffic"]}, "ENVELOPE_INVALID"),
        ({"schema_version": "2"}, "SCHEMA_VERSION_NOT_ALLOWED"),
        ({"pins": None}, "PINS_MISSING"),
        ({"pins": {"platform_run_id": PINS["platform_run_id"]}}, "PINS_MISSING"),
        ({"pins": {**PINS, "platform_run_id": "mine"}}, "ENVELOPE_INVALID"),
    ],
)
def test_a_bad_envelope_gets_the_most_telling_code(change: dict[str, Any], expected: str) -> None:
    """Type before version before pins before the rest."""
    found = code({**event(), **change})
    assert found is not None
    assert found[0] == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(event())), inner),
    )
)
def test_no_json_value_at_all_breaks_the_gate(value: Any) -> None:
    """Anything that parses gets an answer, never an exception."""
    assert validate_event(value) is not None
    assert validate_event({**event(), "payload": value}) is not None


@pytest.mark.parametrize("message_type", ["0120", "0400", "0420"])
def test_advices_and_reversals_are_refused_by_name(message_type: str) -> None:
    """Their shape is known, their handling does not exist, and the answer says which it is."""
    assert code(event(message_type=message_type)) == (
        "MESSAGE_TYPE_NOT_SUPPORTED",
        f"payload.message_type {message_type} is known but not handled",
    )


def test_refunds_are_refused_by_name() -> None:
    """A refund is a purchase message with processing code 20."""
    found = code(event(message_type="0200", processing_code="200000"))
    assert found is not None
    assert found[0] == "MESSAGE_TYPE_NOT_SUPPORTED"


def test_another_currency_is_refused_by_name_and_any_is_allowed_without_a_profile() -> None:
    """One currency per profile until conversion exists."""
    found = code(event(currency="EUR"))
    assert found is not None
    assert found[0] == "CURRENCY_NOT_SUPPORTED"
    assert validate_event(event(currency="EUR")) is None


@pytest.mark.parametrize("pan", ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005"])
@pytest.mark.parametrize("event_type", ["arrival_entities", "flow_anchors"])
def test_a_card_number_in_the_token_field_is_refused_and_not_repeated(event_type: str, pan: str) -> None:
    """PAN_IN_CARD_FIELD names the field; the number itself appears in no answer."""
    rejection = validate_event(event(event_type, card_token=pan))
    assert rejection is not None
    assert rejection.code is ReasonCode.PAN_IN_CARD_FIELD
    assert pan not in rejection.detail


def test_tokens_and_customer_numbers_are_no_card_numbers() -> None:
    """Short numbers, letters and failing check digits pass."""
    for token in ("4111111111111112", "5142190439", "tok_4111111111111111", "", None, "4" * 20, "٤١١١١١١١١١١١١١١١"):
        assert not looks_like_pan(token)


def test_no_refusal_repeats_a_value() -> None:
    """Even a number in a wrong field stays out of the answer."""
    for made in (
        event(flow_id=4111111111111111),
        event("truth", effective_time="4111111111111111"),
        mark() | {"event_id": "4111111111111111"},
    ):
        rejection = validate_event(made)
        assert rejection is not None
        assert "4111" not in rejection.detail


def test_validation_changes_nothing() -> None:
    """The payload hash is taken of what was sent: no defaults, no order, no rounding."""
    made = event()
    before = copy.deepcopy(made)
    validate_event(made, currency="USD")
    assert made == before


def test_a_valid_event_costs_microseconds() -> None:
    """The gate validates 1,000 events a second on a fraction of a core: well under 60 us each, 15 on a quiet one."""
    made = event("flow_anchors", card_token="1234567890123456")
    schemas.validate_event(made)
    best = min(timeit.repeat(lambda: schemas.validate_event(made), number=200, repeat=20)) / 200
    assert best < 60e-6
