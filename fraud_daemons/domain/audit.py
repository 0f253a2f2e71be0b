"""One lineage chain per decision: decision -> intents -> outcomes, closed when every intent has its outcome.

A chain's body is a function of the decision and its outcomes, apart from `closed_at`. The sealer links segments of chains
by hash (`runtime.sealing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fraud_daemons.domain.identity import derived_id


def chain_id(decision_id: str) -> str:
    """The id of a decision's chain."""
    return derived_id("chain", decision_id)


def close_chain(
    decision: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]], *, closed_at: str
) -> dict[str, Any] | None:
    """The `audit_chains` record, or None while an intent still waits for its outcome.

    A decision without intents closes at once. Outcomes of other decisions' intents are no part of the chain; of a
    repeated outcome the first counts. `closed_at` is `clock.iso` text.
    """
    status_of: dict[str, str] = {}
    for outcome in outcomes:
        status_of.setdefault(outcome["intent_id"], outcome["status"])
    intents: list[str] = list(decision["intents"])
    if any(intent not in status_of for intent in intents):
        return None
    return {
        "chain_id": chain_id(decision["decision_id"]),
        "decision_id": decision["decision_id"],
        "flow_id": decision["flow_id"],
        "platform_run_id": decision["platform_run_id"],
        "core_digest": decision["core_digest"],
        "outcome": decision["outcome"],
        "intents": intents,
        "outcomes": [{"intent_id": intent, "status": status_of[intent]} for intent in intents],
        "closed_at": closed_at,
    }
