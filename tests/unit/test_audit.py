"""Lineage chains: when they close, what they hold, how segments are linked."""

from __future__ import annotations

from typing import Any

from fraud_daemons.domain.audit import FIRST_LINK, chain_id, close_chain, link_hash, open_intents

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
    """With one outcome withheld there is no chain, and the open intent is named."""
    outcomes = [outcome("i1")]
    assert close_chain(decision("i1", "i2"), outcomes, closed_at=CLOSED_AT) is None
    assert open_intents(decision("i1", "i2"), outcomes) == ["i2"]


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


def test_the_link_notices_a_missing_and_a_changed_chain() -> None:
    """Taking out a chain, changing one or swapping two breaks every later link."""
    chains = [close_chain(decision(i), [outcome(i)], closed_at=CLOSED_AT) or {} for i in ("i1", "i2")]
    link = link_hash(FIRST_LINK, chains)
    assert link == link_hash(FIRST_LINK, chains)
    others = [chains[:1], chains[::-1], [chains[0], {**chains[1], "outcome": "ALLOW"}]]
    assert link not in {link_hash(FIRST_LINK, other) for other in others}
    assert link_hash(link, chains) != link
