"""The gate's own description: an OpenAPI document made from the schemas by which it validates, so that neither can drift.

Every version of every event type is in it, and every answer the gate gives. It describes and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fraud_daemons import __version__
from fraud_daemons.domain.schemas import SCHEMA_VERSIONS, ReasonCode, load_schema

ENVELOPE, TRANSACTION = "envelope", "transaction"
PUBLISHED: Final = {**SCHEMA_VERSIONS, ENVELOPE: ("1",), TRANSACTION: ("1",)}
"""Schema name -> its versions, as GET /schemas/{name}/{version} gives them."""

MEANING: Final = {
    ReasonCode.ENVELOPE_INVALID: "a field of the envelope is missing or wrong, or the line is no JSON",
    ReasonCode.EVENT_TYPE_UNKNOWN: "no such event type",
    ReasonCode.SCHEMA_VERSION_NOT_ALLOWED: "this version of the event type is not taken",
    ReasonCode.PINS_MISSING: "pins must name platform_run_id, scenario_run_id and world",
    ReasonCode.SCHEMA_FAIL: "the payload breaks its schema; the detail names the field",
    ReasonCode.CURRENCY_NOT_SUPPORTED: "another currency than the profile's; conversion does not exist",
    ReasonCode.MESSAGE_TYPE_NOT_SUPPORTED: "a reversal, advice, repeat or refund: known, and not handled",
    ReasonCode.PAN_IN_CARD_FIELD: "a card number where a token belongs; it is not kept",
    ReasonCode.EVENT_TYPE_NOT_IN_SCOPE: "the key may not send this event type",
    ReasonCode.RUN_UNKNOWN: "pins.platform_run_id names no run that has begun, or one that was retired",
    ReasonCode.PAYLOAD_HASH_MISMATCH: "this event_id was admitted with another payload; both are kept",
}

_REFUSALS: Final = {
    400: "no JSON, nested too deep, or a bad parameter",
    401: "X-API-Key is missing, wrong or ended",
    403: "the key may not do this",
    409: "no run has begun, or this flow_id was admitted with another content",
    413: "too many bytes or events",
    422: "the transaction breaks its schema or is not handled; error is a reason code or SCHEMA_FAIL",
    429: "too much waits; nothing was done. Send the same request again after Retry-After",
    503: "the gate or its database is away, or draining. Send the same request again after Retry-After",
}

Document = dict[str, Any]


def openapi_document(*, batch_events_max: int, body_bytes_max: int, wait_ms_max: int) -> Document:
    """OpenAPI 3.1 with the limits this gate runs with."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ingestion gate",
            "version": __version__,
            "description": f"Takes events in, once each. A request holds at most {batch_events_max} events and"
            f" {body_bytes_max} bytes. After 429 and 503 the same request may be sent again: what was admitted is"
            " answered as DUPLICATE, with its first receipt.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": {
            "/v1/events": {"post": _events(batch_events_max)},
            "/v1/transactions": {"post": _transactions()},
            "/v1/decisions/{decision_id}": {"get": _decision(wait_ms_max)},
            "/healthz": {"get": _open("The service turns; nothing else is asked.", _json(_ref("Health")))},
            "/readyz": {"get": _readiness()},
            "/openapi.json": {"get": _open("This document.", _json({"type": "object"}))},
            "/schemas": {"get": _open("Names and versions of all schemas.", _json({"type": "object"}))},
            "/schemas/{name}/{version}": {"get": _schema()},
            "/docs": {"get": _open("This document for a person.", {"text/html": {"schema": {"type": "string"}}})},
        },
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "schemas": {**dict(_published()), **_answers()},
        },
    }


def _published() -> Iterator[tuple[str, Document]]:
    """Each event type and version as the whole event, and the transaction."""
    yield "Transaction", _plain(load_schema(TRANSACTION))
    names = []
    for event_type, versions in SCHEMA_VERSIONS.items():
        for version in versions:
            names.append(f"{event_type}.v{version}")
            yield names[-1], _event(event_type, version)
    yield "Event", {"oneOf": [_ref(name) for name in names]}


def _event(event_type: str, version: str) -> Document:
    """The envelope of a type, with its payload in place."""
    envelope, payload = _plain(load_schema(ENVELOPE)), _plain(load_schema(event_type, version))
    named = {"event_type": {"const": event_type}, "schema_version": {"const": version}, "payload": payload}
    return {**envelope, "title": f"{event_type}, version {version}", "description": payload.get("description", ""),
            "properties": {**envelope["properties"], **named}}  # fmt: skip


def _plain(schema: Document) -> Document:
    """Inside an OpenAPI document the dialect is the document's."""
    return {key: value for key, value in schema.items() if key != "$schema"}


def _answers() -> Document:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    receipt = _object(topic=text, partition=whole, position=whole, payload_hash=text, admitted_at=text)
    admitted = _object(event_id=text, status={"enum": ["ADMITTED", "DUPLICATE"]}, receipt=_ref("Receipt"))
    refused = _object(
        event_id={"type": ["string", "null"]},
        status={"const": "QUARANTINED"},
        reason={"enum": [str(code) for code in ReasonCode]},
        detail=text,
        quarantine_id=text,
    )
    return {
        "Receipt": receipt,
        "Result": {"oneOf": [admitted, refused]},
        "Results": _object(results={"type": "array", "items": _ref("Result")}),
        "Taken": _object(
            decision_id=text,
            flow_id=text,
            platform_run_id=text,
            status={"enum": ["ADMITTED", "DUPLICATE"]},
            events={"type": "array", "items": _ref("Result"), "minItems": 4, "maxItems": 4},
        ),
        "Decision": {"type": "object", "required": ["decision_id", "outcome"]},
        "Refused": _object(error=text, detail=text, fix=text),
        "Health": _object(status={"const": "ok"}),
        "Readiness": {
            "type": "object",
            "required": ["status", "checks"],
            "properties": {
                "status": {"enum": ["ready", "not ready"]},
                "checks": {"type": "object", "additionalProperties": text},
            },
        },
    }


def _events(batch_events_max: int) -> Document:
    batch = {"type": "array", "items": _ref("Event"), "maxItems": batch_events_max}
    lines = {"type": "string", "description": "one event per line"}
    return {
        "summary": "One event, an array, or one event per line; an answer per event, in their order.",
        "description": "One bad event never fails its batch.\n\n"
        + "\n".join(f"- `{code}`: {meaning}" for code, meaning in MEANING.items()),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"anyOf": [_ref("Event"), batch]}},
                "application/x-ndjson": {"schema": lines},
            },
        },
        "responses": {"200": _response("One answer per event.", _json(_ref("Results"))), **_refused(400, 401, 413, 429, 503)},
    }  # fmt: skip


def _transactions() -> Document:
    taken = _json(_ref("Taken"))
    return {
        "summary": "One whole transaction for the run that is current, admitted as four events or not at all.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Transaction")}}},
        "responses": {
            "202": _response("Admitted; ask for the decision.", taken),
            "200": _response("Admitted before, with the same content.", taken),
            **_refused(400, 401, 403, 409, 413, 422, 429, 503),
        },
    }


def _decision(wait_ms_max: int) -> Document:
    return {
        "summary": "The decision, at once or as soon as it is there.",
        "parameters": [
            {"name": "decision_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
            {"name": "wait_ms", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": wait_ms_max}},
        ],
        "responses": {
            "200": _response("The decision.", _json(_ref("Decision"))),
            "404": _response("Not known by the end of the wait.", _json(_ref("Refused"))),
            **_refused(400, 401, 429, 503),
        },
    }


def _readiness() -> Document:
    answer = _json(_ref("Readiness"))
    return {
        "summary": "Whether an event would be taken in now, and why not.",
        "security": [],
        "responses": {"200": _response("It would.", answer), "429": _response("Too much waits.", answer),
                      "503": _response("The gate or its database is away, or draining.", answer)},
    }  # fmt: skip


def _schema() -> Document:
    return {
        "summary": "A schema as JSON Schema, draft 7.",
        "security": [],
        "parameters": [
            {"name": "name", "in": "path", "required": True, "schema": {"enum": list(PUBLISHED)}},
            {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9]{1,4}$"}},
        ],
        "responses": {"200": _response("The schema.", _json({"type": "object"})),
                      "404": _response("There is none.", _json(_ref("Refused")))},
    }  # fmt: skip


def _open(summary: str, content: Document) -> Document:
    return {"summary": summary, "security": [], "responses": {"200": _response("It.", content)}}


def _refused(*statuses: int) -> Document:
    return {str(status): _response(_REFUSALS[status], _json(_ref("Refused"))) for status in statuses}


def _response(description: str, content: Document) -> Document:
    return {"description": description, "content": content}


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> Document:
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}
