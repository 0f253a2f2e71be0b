"""What the gate lets in: JSON Schemas per event type and version, and the few checks a schema cannot make.

The schemas lie in `schemas/*.json` (draft 7) and are compiled once. A valid event costs two quick looks made from them;
which reason code a bad one gets is worked out only after it has failed. A detail names the field and what would be
right, never the value: a value may be a card number.

Refused by name, though their shape is known: message types and refunds nobody here handles yet, another currency than
the profile's, and a raw card number where a token belongs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

import fastjsonschema
import orjson

from fraud_daemons.domain.card_numbers import CARD_FIELDS, holds_pan
from fraud_daemons.domain.envelope import EVENT_TYPES, SCHEMA_VERSION
from fraud_daemons.domain.quick_check import Check, quick_check

Validator = Callable[[Any], Any]

HANDLED_MESSAGE_TYPES: Final = frozenset({"0100", "0200"})
"""Authorisation and financial requests. Advices, reversals and repeats have a schema and no handling."""

REFUND_PROCESSING: Final = "20"  # ISO 8583 DE3, first two digits
DETAIL_CHARACTERS_MAX: Final = 200

SCHEMA_VERSIONS: Final = dict.fromkeys(EVENT_TYPES, (SCHEMA_VERSION,))

# What a schema cannot say, or only slowly: "integer" also takes 5.0, a pattern takes the 31st of February, and one
# pattern per text against control characters (which PostgreSQL and terminals choke on) doubles the time of an event.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER: Final = {
    "traffic": "amount_minor",
    "arrival_events": "arrival_seq",
    "arrival_entities": "arrival_seq",
    "flow_anchors": "arrival_seq",
    "truth": "correction",
    "progress_mark": "up_to_source_seq",
}
_TIMES: Final = {"truth": "effective_time", "progress_mark": "up_to_occurred_at"}
_WITH_CARD: Final = frozenset({"arrival_entities", "flow_anchors"})
_NAME: Final = re.compile(r"(?!.*[0-9]{6})[A-Za-z_][A-Za-z0-9_.-]{0,39}")


class ReasonCode(StrEnum):
    """Why an event was not admitted; a contract with producers."""

    ENVELOPE_INVALID = "ENVELOPE_INVALID"
    EVENT_TYPE_UNKNOWN = "EVENT_TYPE_UNKNOWN"
    SCHEMA_VERSION_NOT_ALLOWED = "SCHEMA_VERSION_NOT_ALLOWED"
    PINS_MISSING = "PINS_MISSING"
    SCHEMA_FAIL = "SCHEMA_FAIL"
    CURRENCY_NOT_SUPPORTED = "CURRENCY_NOT_SUPPORTED"
    MESSAGE_TYPE_NOT_SUPPORTED = "MESSAGE_TYPE_NOT_SUPPORTED"
    PAN_IN_CARD_FIELD = "PAN_IN_CARD_FIELD"
    EVENT_TYPE_NOT_IN_SCOPE = "EVENT_TYPE_NOT_IN_SCOPE"
    RUN_UNKNOWN = "RUN_UNKNOWN"
    PAYLOAD_HASH_MISMATCH = "PAYLOAD_HASH_MISMATCH"


class _Rules(NamedTuple):
    """How events of one type and version are checked: a first look at each half, and the whole of its schema."""

    envelope_is_good: Check
    validate_envelope: Validator
    payload_is_good: Check
    validate_payload: Validator


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal: its code and one line that names the field."""

    code: ReasonCode
    detail: str


def validate_event(event: Any, *, currency: str | None = None, plain: bool = False) -> Rejection | None:
    """None for an event the gate may admit, else the first reason why not.

    `currency` is the profile's ISO 4217 code; None accepts any. `plain` = no text of it can hold a control character, see
    `is_plain`. The event is not changed.
    """
    try:
        event_type = event["event_type"]
        rules = _validators()[event_type, event["schema_version"]]
        if not rules.envelope_is_good(event):
            rules.validate_envelope(event)
            if type(event["source_seq"]) is not int:
                return Rejection(ReasonCode.ENVELOPE_INVALID, "source_seq must be written as a whole number")
        datetime.fromisoformat(event["occurred_at"])
    except (fastjsonschema.JsonSchemaValueException, KeyError, TypeError, IndexError, ValueError):
        return _envelope_rejection(event)
    if not plain and (name := _control_character(event) or _control_character(event["pins"])) is not None:
        return Rejection(ReasonCode.ENVELOPE_INVALID, f"{name} holds a control character")
    payload = event["payload"]
    try:
        if not rules.payload_is_good(payload):
            rules.validate_payload(payload)
            if type(payload[_INTEGER[event_type]]) is not int:
                name = _INTEGER[event_type]
                return Rejection(ReasonCode.SCHEMA_FAIL, f"payload.{name} must be written as a whole number")
        if event_type in _TIMES:
            datetime.fromisoformat(payload[_TIMES[event_type]])
    except fastjsonschema.JsonSchemaValueException as failure:
        return Rejection(ReasonCode.SCHEMA_FAIL, failed_rule("payload", failure))
    except ValueError:
        return Rejection(ReasonCode.SCHEMA_FAIL, f"payload.{_TIMES[event_type]} is not a day of the calendar")
    if not plain and (name := _control_character(payload)) is not None:
        return Rejection(ReasonCode.SCHEMA_FAIL, f"payload.{name} holds a control character")
    return _content_rejection(event_type, payload, currency)


def is_plain(body: bytes) -> bool:
    """Whether no text in a JSON body can hold a control character: JSON has them as escapes only, but for DEL. Two looks
    at the bytes of a batch instead of one at each of its texts."""
    return b"\\" not in body and b"\x7f" not in body


def _content_rejection(event_type: str, payload: dict[str, Any], currency: str | None) -> Rejection | None:
    """What is wrong with a payload that has the right shape."""
    if event_type == "traffic":
        return _traffic_rejection(payload, currency)
    if event_type in _WITH_CARD:
        for name in CARD_FIELDS:
            if holds_pan(payload[name]):
                detail = f"payload.{name} holds a card number, which is not kept; send a token"
                return Rejection(ReasonCode.PAN_IN_CARD_FIELD, detail)
    return None


def _control_character(values: dict[str, Any]) -> str | None:
    """The first field whose text holds one. `isprintable` settles nearly every text at the speed of C."""
    for name, value in values.items():
        if value.__class__ is str and not value.isprintable() and _CONTROL.search(value):
            return name
    return None


def load_schema(name: str, version: str = SCHEMA_VERSION) -> dict[str, Any]:
    """The JSON Schema document of an event type, or of `envelope`."""
    file = resources.files("fraud_daemons.domain").joinpath("schemas", f"{name}.v{version}.json")
    document: dict[str, Any] = orjson.loads(file.read_bytes())
    return document


@cache
def _validators() -> dict[tuple[str, str], _Rules]:
    """By event type and version. One cache per process: compiling takes tens of milliseconds."""
    envelope = load_schema("envelope")
    validate_envelope, envelope_is_good = fastjsonschema.compile(envelope, use_default=False), _quick(envelope)
    found = {}
    for event_type, versions in SCHEMA_VERSIONS.items():
        for version in versions:
            payload = load_schema(event_type, version)
            validate_payload = fastjsonschema.compile(payload, use_default=False)
            found[event_type, version] = _Rules(envelope_is_good, validate_envelope, _quick(payload), validate_payload)
    return found


def _quick(schema: dict[str, Any]) -> Check:
    """The first look at a value; where there is none the compiled schema looks at everything."""
    return quick_check(schema) or (lambda _value: False)


def _traffic_rejection(payload: dict[str, Any], currency: str | None) -> Rejection | None:
    if payload["message_type"] not in HANDLED_MESSAGE_TYPES:
        detail = f"payload.message_type {payload['message_type']} is known but not handled"
        return Rejection(ReasonCode.MESSAGE_TYPE_NOT_SUPPORTED, detail)
    if (payload.get("processing_code") or "").startswith(REFUND_PROCESSING):
        detail = "payload.processing_code says refund, which is known but not handled"
        return Rejection(ReasonCode.MESSAGE_TYPE_NOT_SUPPORTED, detail)
    if currency is not None and payload["currency"] != currency:
        detail = f"payload.currency must be {currency}; conversion does not exist"
        return Rejection(ReasonCode.CURRENCY_NOT_SUPPORTED, detail)
    return None


def _envelope_rejection(event: Any) -> Rejection:
    """The most telling reason for an envelope that failed: type, then version, then pins, then the rest."""
    if not isinstance(event, dict):
        return Rejection(ReasonCode.ENVELOPE_INVALID, "an event must be a JSON object")
    event_type, version = event.get("event_type"), event.get("schema_version")
    if isinstance(event_type, str) and event_type not in EVENT_TYPES:
        return Rejection(ReasonCode.EVENT_TYPE_UNKNOWN, f"event_type must be one of {', '.join(EVENT_TYPES)}")
    if isinstance(event_type, str) and isinstance(version, str) and version not in SCHEMA_VERSIONS[event_type]:
        allowed = ", ".join(SCHEMA_VERSIONS[event_type])
        return Rejection(ReasonCode.SCHEMA_VERSION_NOT_ALLOWED, f"schema_version of {event_type} must be {allowed}")
    pins = event.get("pins")
    missing = [pin for pin in _PINS if not isinstance(pins, dict) or pin not in pins]
    if missing:
        return Rejection(ReasonCode.PINS_MISSING, f"pins: {', '.join(missing)} missing")
    try:
        _validators()[EVENT_TYPES[0], SCHEMA_VERSION].validate_envelope(event)
    except fastjsonschema.JsonSchemaValueException as failure:
        return Rejection(ReasonCode.ENVELOPE_INVALID, failed_rule("", failure))
    return Rejection(ReasonCode.ENVELOPE_INVALID, "occurred_at is not a day of the calendar")


_PINS: Final = ("platform_run_id", "scenario_run_id", "world")


def failed_rule(prefix: str, failure: fastjsonschema.JsonSchemaValueException) -> str:
    """`payload.amount_minor must be bigger than or equal to 1`: the field and the rule, bounded, no value."""
    name = str(failure.message).partition(" ")[0]
    field = ".".join(part for part in (prefix, name.removeprefix("data").lstrip(".")) if part)
    rule = str(failure.message)[len(name) :]
    if failure.rule == "additionalProperties":
        rule = f" must not contain {_unknown_names(failure)}"
    return f"{field or 'event'}{rule}"[:DETAIL_CHARACTERS_MAX]


def _unknown_names(failure: fastjsonschema.JsonSchemaValueException) -> str:
    """Names that the sender made up, as far as they are names: anything may stand there."""
    unknown = sorted(set(failure.value) - set(failure.definition["properties"]))
    return ", ".join(name if _NAME.fullmatch(name) else f"a name of {len(name)} characters" for name in unknown)
