"""Crafted input of the case_labels workers, in the shapes of docs/CONTRACTS.md."""

from __future__ import annotations

from typing import Any

from fraud_daemons.domain.cases import TriggerKind, subject_of, trigger_id
from fraud_daemons.domain.envelope import make_event, make_mark
from fraud_daemons.domain.identity import derived_id

SCENARIO = "5" * 32


def flow(number: int) -> str:
    return f"flow{number:05}"


def at(number: int) -> str:
    """World time of event `number`: one a second."""
    return f"2018-07-18T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000000Z"


def decision(number: int, *, outcome: str, run: str, card: str | None = "") -> dict[str, Any]:
    """A decision; `card` "" gives one card to every third number, None none."""
    flow_id = flow(number)
    return {
        "decision_id": derived_id("decision", run, flow_id),
        "flow_id": flow_id,
        "platform_run_id": run,
        "scenario_run_id": SCENARIO,
        "world": "test",
        "occurred_at": at(number),
        "source_seq": number,
        "event_id": derived_id("event", SCENARIO, "traffic", flow_id),
        "outcome": outcome,
        "score": 1,
        "reasons": [{"rule_id": "r1", "reason": f"reason {number}", "weight": 1}],
        "card_token": f"card{number // 3}" if card == "" else card,
        "terminal_id": "t1",
        "merchant_id": None,
        "intents": [],
    }


def action_outcome(number: int, *, status: str, run: str, card: str | None = "") -> dict[str, Any]:
    """An action outcome of the decision of the same number."""
    decision_id = derived_id("decision", run, flow(number))
    return {
        "intent_id": derived_id("intent", decision_id, "notify"),
        "decision_id": decision_id,
        "flow_id": flow(number),
        "platform_run_id": run,
        "action": "notify",
        "status": status,
        "executor": "webhook",
        "attempts": 3,
        "detail": "no answer",
        "card_token": f"card{number // 3}" if card == "" else card,
        "completed_at": at(number),
    }


def trigger(number: int, *, run: str, card: str | None) -> dict[str, Any]:
    """A case trigger of a BLOCK decision."""
    subject_kind, subject = subject_of(card, flow(number))
    decision_id = derived_id("decision", run, flow(number))
    return {
        "trigger_id": trigger_id(run, TriggerKind.DECISION, decision_id),
        "platform_run_id": run,
        "kind": "DECISION",
        "subject_kind": subject_kind,
        "subject": subject,
        "decision_id": decision_id,
        "flow_id": flow(number),
        "outcome": "BLOCK",
        "reason": f"reason {number}",
        "occurred_at": at(number),
        "source_seq": number,
    }


def truth(number: int, *, fraud: bool, run: str, observed: int | None = None, correction: int = 0) -> dict[str, Any]:
    """A truth event about flow `number`, observed at second `observed` (default: 1,000 s later)."""
    payload = {
        "flow_id": flow(number),
        "fraud": fraud,
        "fraud_type": "lost card" if fraud else None,
        "effective_time": at(number),
        "source_ref": None,
        "correction": correction,
    }
    return make_event(
        event_type="truth",
        payload=payload,
        occurred_at=at(number + 1000 if observed is None else observed),
        source_seq=number,
        platform_run_id=run,
        scenario_run_id=SCENARIO,
        world="test",
        producer="world_stream_producer",
    )


def truth_mark(up_to: int, *, run: str, end_of_world: bool = False) -> dict[str, Any]:
    """A progress mark of the truth feed: everything observed up to second `up_to` has been sent."""
    return make_mark(
        output="truth",
        up_to=(at(up_to), up_to),
        end_of_world=end_of_world,
        stop_reason=None,
        platform_run_id=run,
        scenario_run_id=SCENARIO,
        world="test",
        producer="world_stream_producer",
    )
