"""Lineage chains: when they close, what they hold."""

from __future__ import annotations

from typing import Any

from fraud_daemons.domain.audit import chain_id, close_chain

CLOSED_AT = "2026-01-01T00:00:00.000000Z"


def decision(*intents: str) -> dict[str, Any]:
    return {
        "decision_id": "d1",
        "flow_id": "f1",
        "platform_run_id": "r1",
        "core_digest": "c" * 64,
        "outcome": "BLOCK",
        "intents": list(intents),
    }


def outcome(intent: str, status: str = "EXECUTED") -> dict[str, Any]:
    return {"intent_id": intent, "status": status}


def test_a_chain_stays_open_until_its_last_outcome() -> None:
    """With one outcome withheld there is no chain."""
    assert close_chain(decision("i1", "i2"), [outcome("i1")], closed_at=CLOSED_AT) is None


def test_a_decision_without_intents_closes_at_once() -> None:
    """An ALLOW has nothing to wait for."""
    chain = close_chain(decision(), [], closed_at=CLOSED_AT)
    assert chain is not None
    assert chain["outcomes"] == []
    assert chain["chain_id"] == chain_id("d1")


def test_a_chain_is_the_same_whatever_the_order_of_outcomes() -> None:
    """Outcomes stand in the decision's order; repeats and other decisions' outcomes change nothing."""
    wanted = decision("i1", "i2")
    straight = close_chain(wanted, [outcome("i1"), outcome("i2", "DENIED")], closed_at=CLOSED_AT)
    crooked = close_chain(
        wanted,
        [outcome("i2", "DENIED"), outcome("elsewhere"), outcome("i1"), outcome("i2", "EXECUTED")],
        closed_at=CLOSED_AT,
    )
    assert straight == crooked
    assert straight is not None
    assert straight["outcomes"] == [outcome("i1"), outcome("i2", "DENIED")]
