"""From a bound or featured record to a decision and its intents, and the digest by which two runs are compared.

The core digest covers inputs, features, policy, posture mode and result, and nothing that may differ between two honest
runs of one world: no run id, position, wall time, posture sequence or graph version. With the posture pinned, equal
worlds give equal sets of (flow_id, core digest), whatever was killed on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from fraud_daemons.clock import parse_iso
from fraud_daemons.domain.actions import intent_id
from fraud_daemons.domain.identity import canonical_json, derived_id
from fraud_daemons.domain.policy import Evaluation, Policy, actions_for, evaluate
from fraud_daemons.domain.posture import Posture, allows_features

PRESENT: Final = "PRESENT"
ABSENT: Final = "ABSENT"

_CONTEXT_FIELDS: Final = (
    ("arrival", ("channel", "pos_entry_mode", "mcc", "merchant_name", "country", "state", "postal_code")),
    ("anchor", ("party_id", "account_id", "device_id", "ip")),
)
_TRAFFIC_FIELDS: Final = ("amount_minor", "currency", "message_type", "processing_code")
SOURCE_SEQ_MAX: Final = 2**62  # fits bigint
BROKEN: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What a record that breaks its contract raises on its way through `flow_of` and `decide`."""
_BOUND_FIELDS: Final = ("card_token", "terminal_id", "merchant_id", "context_status")


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision without `sources` and `decided_at`, and its intents without `requested_at`: the worker adds those."""

    decision: dict[str, Any]
    intents: tuple[dict[str, Any], ...]


def flow_of(body: bytes) -> dict[str, Any]:
    """The flow in a record's bytes, checked as far as the columns that a decision is stored in go. Raises one of BROKEN.

    A bound record may be what stopped the feature plane, and must not become the database's complaint about a whole batch.
    """
    if b"\\u0000" in body:
        raise ValueError("holds a NUL character")
    flow: dict[str, Any] = orjson.loads(body)
    for name in ("flow_id", "platform_run_id", "context_status"):
        if not (isinstance(flow[name], str) and flow[name]):
            raise ValueError(f"{name} must be a text")
    for name in ("card_token", "snapshot_hash"):
        if not isinstance(flow.get(name), str | None):
            raise ValueError(f"{name} must be a text or null")
    if not (isinstance(flow["source_seq"], int) and abs(flow["source_seq"]) < SOURCE_SEQ_MAX):
        raise ValueError("source_seq must be a whole number")
    parse_iso(flow["occurred_at"])
    return flow


def published(
    decided: Decided,
    flow: Mapping[str, Any],
    *,
    decided_from: tuple[str, int, int],
    graph_version: int | None,
    decided_at: str,
) -> dict[str, Any]:
    """The record on `decisions`: the decision with where it came from. What is added here is in no digest."""
    decision = decided.decision
    decision["sources"] = {**(flow.get("sources") or {}), "decided_from": list(decided_from)}
    decision["graph_version"] = graph_version
    decision["decided_at"] = decided_at
    return decision


def decision_id(platform_run_id: str, flow_id: str) -> str:
    """One decision per run and flow, whichever record it was made from."""
    return derived_id("decision", platform_run_id, flow_id)


def decide(record: Mapping[str, Any], policy: Policy, posture: Posture) -> Decided:
    """Decide a `flows.bound` or `flows.featured` record. Features are used where the posture allows them."""
    features = record.get("features") if allows_features(posture.mode) else None
    evaluation = evaluate(policy, facts_of(record, features), posture.mode)
    flow_id, run = record["flow_id"], record["platform_run_id"]
    identity = decision_id(run, flow_id)
    intents = _intents(record, identity, policy, evaluation.outcome)
    decision = {
        "decision_id": identity,
        "flow_id": flow_id,
        "platform_run_id": run,
        "scenario_run_id": record["scenario_run_id"],
        "world": record["world"],
        "occurred_at": record["occurred_at"],
        "source_seq": record["source_seq"],
        "event_id": record["event_id"],
        "outcome": evaluation.outcome,
        "score": evaluation.score,
        "reasons": [reason.as_dict() for reason in evaluation.reasons],
        "policy": policy.identity(),
        "posture": {"mode": str(posture.mode), "sequence": posture.sequence},
        "feature_status": ABSENT if features is None else PRESENT,
        "context_status": record["context_status"],
        "features": features,
        "snapshot_hash": None if features is None else record["snapshot_hash"],
        "core_digest": core_digest(record, features, policy, posture, evaluation),
        "traffic": record["traffic"],
        "card_token": record["card_token"],
        "terminal_id": record["terminal_id"],
        "merchant_id": record["merchant_id"],
        "intents": [intent["intent_id"] for intent in intents],
        "admitted_at": record["admitted_at"],
    }
    return Decided(decision, intents)


def facts_of(record: Mapping[str, Any], features: Mapping[str, Any] | None) -> dict[str, Any]:
    """The named fields rules may read; what the record does not have is absent. Labels are not among them."""
    facts: dict[str, Any] = dict(features) if features is not None else {}
    traffic = record["traffic"]
    for name in _TRAFFIC_FIELDS:
        facts[name] = traffic.get(name)
    for name in _BOUND_FIELDS:
        facts[name] = record[name]
    for part, names in _CONTEXT_FIELDS:
        payload = record[part]
        if payload is not None:
            for name in names:
                facts[name] = payload.get(name)
    facts["hour_utc"] = int(record["occurred_at"][11:13])
    facts["feature_status"] = ABSENT if features is None else PRESENT
    return facts


def core_digest(
    record: Mapping[str, Any],
    features: Mapping[str, Any] | None,
    policy: Policy,
    posture: Posture,
    evaluation: Evaluation,
) -> str:
    """SHA-256 hex over what the decision rests on and what came out."""
    core = {
        "occurred_at": record["occurred_at"],
        "source_seq": record["source_seq"],
        "traffic": record["traffic"],
        "anchor": record["anchor"],
        "arrival": record["arrival"],
        "entities": record["entities"],
        "context_status": record["context_status"],
        "features": features,
        "feature_status": ABSENT if features is None else PRESENT,
        "policy": policy.identity(),
        "posture_mode": str(posture.mode),
        "outcome": evaluation.outcome,
        "score": evaluation.score,
        "reasons": [reason.as_dict() for reason in evaluation.reasons],
    }
    return hashlib.sha256(canonical_json(core)).hexdigest()


def _intents(record: Mapping[str, Any], decision: str, policy: Policy, outcome: str) -> tuple[dict[str, Any], ...]:
    traffic = record["traffic"]
    return tuple(
        {
            "intent_id": intent_id(decision, action),
            "decision_id": decision,
            "flow_id": record["flow_id"],
            "platform_run_id": record["platform_run_id"],
            "action": action,
            "origin": f"policy:{policy.policy_id}",
            "parameters": {
                "outcome": outcome,
                "card_token": record["card_token"],
                "amount_minor": traffic["amount_minor"],
                "currency": traffic["currency"],
            },
        }
        for action in actions_for(policy, outcome)
    )
