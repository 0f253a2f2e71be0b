"""The event as it travels from a producer to the gate: names of outputs, topics and fields, and how one is made."""

from __future__ import annotations

from typing import Any, Final

from fraud_daemons.domain.identity import derived_id, frame_key

OUTPUTS: Final = ("traffic", "arrival_events", "arrival_entities", "flow_anchors")
"""The four outputs of a world, in the order in which the producer sends a round: what others wait for comes last."""

TRUTH: Final = "truth"
PROGRESS_MARK: Final = "progress_mark"
EVENT_TYPES: Final = (*OUTPUTS, TRUTH, PROGRESS_MARK)
SCHEMA_VERSION: Final = "1"

MARK_KEYS: Final = "mark-"
"""How a mark's key on the bus begins: it belongs to no flow and no place, and has one key for each partition it goes to."""

OrderKey = tuple[str, int]
"""A place in a world's total order: (occurred_at, source_seq). The time format sorts as text."""

BEFORE_EVERYTHING: Final[OrderKey] = ("", -1)
AFTER_EVERYTHING: Final[OrderKey] = ("9999-12-31T23:59:59.999999Z", 2**62)


def source_key(event_type: str, payload: dict[str, Any]) -> str:
    """What identifies an event at its source: the flow for traffic, anchors and truth, the frame for arrivals."""
    if event_type in ("arrival_events", "arrival_entities"):
        return frame_key(payload["merchant_id"], payload["terminal_id"], payload["arrival_seq"])
    if event_type == TRUTH:
        return f"{payload['flow_id']}|{payload.get('correction', 0)}"
    return str(payload["flow_id"])


def make_event(
    *,
    event_type: str,
    payload: dict[str, Any],
    occurred_at: str,
    source_seq: int,
    platform_run_id: str,
    scenario_run_id: str,
    world: str | None,
    producer: str,
) -> dict[str, Any]:
    """A whole event with its derived id. `occurred_at` is `clock.iso` text."""
    return {
        "event_id": derived_id("event", scenario_run_id, event_type, source_key(event_type, payload)),
        "event_type": event_type,
        "schema_version": SCHEMA_VERSION,
        "occurred_at": occurred_at,
        "source_seq": source_seq,
        "producer": producer,
        "pins": {"platform_run_id": platform_run_id, "scenario_run_id": scenario_run_id, "world": world},
        "payload": payload,
    }


def make_mark(
    *,
    output: str,
    up_to: OrderKey,
    end_of_world: bool,
    stop_reason: str | None,
    platform_run_id: str,
    scenario_run_id: str,
    world: str | None,
    producer: str,
) -> dict[str, Any]:
    """A progress mark: everything of `output` up to and including `up_to` has been sent."""
    occurred_at, source_seq = up_to
    return {
        "event_id": derived_id("mark", scenario_run_id, output, occurred_at, source_seq, stop_reason or ""),
        "event_type": PROGRESS_MARK,
        "schema_version": SCHEMA_VERSION,
        "occurred_at": occurred_at,
        "source_seq": source_seq,
        "producer": producer,
        "pins": {"platform_run_id": platform_run_id, "scenario_run_id": scenario_run_id, "world": world},
        "payload": {
            "output": output,
            "up_to_occurred_at": occurred_at,
            "up_to_source_seq": source_seq,
            "end_of_world": end_of_world,
            "stop_reason": stop_reason,
        },
    }


def order_key(event: dict[str, Any]) -> OrderKey:
    """Where an event stands in its world's total order."""
    return event["occurred_at"], event["source_seq"]
