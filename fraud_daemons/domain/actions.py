"""Which actions exist, who may ask for which, and what an action's outcome looks like.

An intent is executed once: its idempotency key is its `intent_id`, derived from the decision and the action, so a
retry after any crash carries the key of the first attempt. What nobody granted is denied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fraud_daemons.domain.identity import derived_id

ACTIONS: Final = (
    "decline_authorisation",
    "hold_for_review",
    "notify_cardholder",
    "release_hold",
    "request_step_up",
)

Authority = Mapping[str, frozenset[str]]
"""Origin -> actions it may ask for. An origin is `kind:name`; a row is an exact origin or `kind:*`."""

DEFAULT_AUTHORITY: Final[Authority] = {
    "policy:*": frozenset({"decline_authorisation", "hold_for_review", "notify_cardholder", "request_step_up"}),
    "analyst:*": frozenset({"notify_cardholder", "release_hold", "request_step_up"}),
}


class ActionStatus(StrEnum):
    """How an intent ended. Every intent ends in exactly one of these."""

    EXECUTED = "EXECUTED"
    DENIED = "DENIED"  # authority or the kill switch said no; nothing was called
    FAILED = "FAILED"  # the executor gave up after its last attempt


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal, with the sentence that goes into the outcome's `detail`."""

    detail: str


def authorise(origin: str, action: str, authority: Authority = DEFAULT_AUTHORITY) -> Denied | None:
    """None when `origin` may ask for `action`. An exact row replaces its kind's row; it does not add to it."""
    if action not in ACTIONS:
        return Denied(f"unknown action {action!r}")
    kind, _, _ = origin.partition(":")
    granted = authority.get(origin)
    if granted is None:
        granted = authority.get(f"{kind}:*")
    if granted is None:
        return Denied(f"origin {origin!r} is not in the authority table")
    if action not in granted:
        return Denied(f"origin {origin!r} may not ask for {action}")
    return None


def intent_id(decision_id: str, action: str) -> str:
    """The intent's id, which is also the idempotency key handed to executors."""
    return derived_id("intent", decision_id, action)


def outcome_body(
    intent: Mapping[str, Any],
    *,
    status: ActionStatus,
    executor: str,
    attempts: int,
    detail: str,
    completed_at: str,
) -> dict[str, Any]:
    """The `action_outcomes` record of an intent. `completed_at` is `clock.iso` text; the card comes from the intent."""
    return {
        "intent_id": intent["intent_id"],
        "decision_id": intent["decision_id"],
        "flow_id": intent["flow_id"],
        "platform_run_id": intent["platform_run_id"],
        "action": intent["action"],
        "status": str(status),
        "executor": executor,
        "attempts": attempts,
        "detail": detail,
        "card_token": intent["parameters"].get("card_token"),
        "completed_at": completed_at,
    }
