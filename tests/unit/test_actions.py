"""Who may ask for which action, and the shape of an outcome."""

from __future__ import annotations

from fraud_daemons.domain.actions import (
    ACTIONS,
    ActionStatus,
    Denied,
    authorise,
    intent_id,
    outcome_body,
)


def test_a_policy_may_decline_and_a_stranger_may_not() -> None:
    """Authority is granted by origin; what nobody granted is denied with a reason."""
    assert authorise("policy:baseline", "decline_authorisation") is None
    denied = authorise("webhook:partner", "decline_authorisation")
    assert isinstance(denied, Denied)
    assert "webhook:partner" in denied.detail


def test_an_analyst_may_release_a_hold_and_a_policy_may_not() -> None:
    """The table grants single actions, not everything to a kind of origin."""
    assert authorise("analyst:ada", "release_hold") is None
    assert authorise("policy:baseline", "release_hold") == Denied(
        "origin 'policy:baseline' may not ask for release_hold"
    )


def test_an_exact_row_replaces_the_row_of_its_kind() -> None:
    """One policy can be given less than the others: its own row stands alone."""
    authority = {"policy:*": frozenset(ACTIONS), "policy:shadow": frozenset[str]()}
    assert authorise("policy:live", "notify_cardholder", authority) is None
    assert isinstance(authorise("policy:shadow", "notify_cardholder", authority), Denied)


def test_an_unknown_action_is_denied_even_to_the_mighty() -> None:
    """An action that does not exist is never authorised."""
    assert isinstance(authorise("policy:baseline", "launch"), Denied)


def test_an_outcome_names_its_intent_and_its_card() -> None:
    """The outcome record carries what later stages key by, taken from the intent."""
    intent = {
        "intent_id": intent_id("d1", "notify_cardholder"),
        "decision_id": "d1",
        "flow_id": "f1",
        "platform_run_id": "r1",
        "action": "notify_cardholder",
        "parameters": {"card_token": "c1"},
    }
    body = outcome_body(
        intent,
        status=ActionStatus.FAILED,
        executor="webhook",
        attempts=3,
        detail="refused",
        completed_at="2026-01-01T00:00:00.000000Z",
    )
    assert (body["intent_id"], body["status"], body["card_token"]) == (intent["intent_id"], "FAILED", "c1")
