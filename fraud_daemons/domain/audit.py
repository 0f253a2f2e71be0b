"""One lineage chain per decision: decision -> intents -> outcomes, closed when every intent has its outcome.

A chain's body is a function of the decision and its outcomes, apart from `closed_at`. Segments of chains are linked by
hash, so that taking one out or changing a byte shows in every later link.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fraud_daemons.domain.identity import canonical_json, derived_id

FIRST_LINK: Final = "0" * 64
"""What the first segment of a run names as its predecessor."""


def chain_id(decision_id: str) -> str:
    """The id of a decision's chain."""
    return derived_id("chain", decision_id)


def open_intents(decision: Mapping[str, Any], outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Intents of the decision that have no outcome yet, in the decision's order."""
    answered = {outcome["intent_id"] for outcome in outcomes}
    return [intent for intent in decision["intents"] if intent not in answered]


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


def link_hash(previous: str, chains: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 hex over the previous link and the segment's chains in order; the next segment names it."""
    digest = hashlib.sha256(previous.encode())
    for chain in chains:
        digest.update(b"\n")
        digest.update(canonical_json(chain))
    return digest.hexdigest()
