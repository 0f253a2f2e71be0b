"""The shipped policy: it loads, each rule fires on its record and not on the neighbour, ordinary cards pass."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.domain.decisions import decide
from fraud_daemons.domain.policy import OUTCOMES, parse_policy
from fraud_daemons.domain.posture import Mode, Posture
from tests.unit.made_records import bound_record, featured_record, with_amount

FILE = Path(__file__).resolve().parents[2] / "config" / "policies" / "baseline.toml"
POLICY = parse_policy(tomllib.loads(FILE.read_text()), source=FILE.name)
NORMAL = Posture(Mode.NORMAL, 1)


def fired(record: dict[str, Any]) -> set[str]:
    return {reason["rule_id"] for reason in decide(record, POLICY, NORMAL).decision["reasons"]}


def amount(amount_minor: int, changed: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return featured_record(changed, traffic=with_amount(amount_minor), **changes)


def place(**changes: Any) -> dict[str, Any]:
    return {**bound_record()["arrival"], **changes}


BURST = {"card_count_1d": 6, "card_count_7d": 10, "card_count_30d": 25}
RUSH = {"terminal_count_1d": 7, "terminal_count_30d": 40, "terminal_delayed_count_7d": 8}
SPREE = {"card_mean_1d": 5000.0, "card_count_1d": 3}
DEARER = {"terminal_mean_7d": 5000.0, "card_mean_30d": 9000.0}
TESTING = {"card_count_1d": 8, "card_mean_1d": 250.0}
NIGHT = {"is_night": 1, "amount_to_card_mean_30d": 2.0}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "amount_outlier": (amount(22001), amount(22000)),
    "amount_high": (amount(40001), amount(40000)),
    "amount_extreme": (amount(500000), amount(499999)),
    "ratio_to_card_mean": (amount(5001), amount(5000)),
    "ratio_of_well_known_card": (amount(5001, {"card_count_30d": 30}), amount(5001, {"card_count_30d": 29})),
    "ratio_extreme": (amount(10000), amount(10000, {"card_mean_30d": 3000.0})),
    "card_spree": (featured_record(SPREE), featured_record({**SPREE, "card_count_1d": 2})),
    "card_velocity": (featured_record({"card_count_1d": 20}), featured_record({"card_count_1d": 19})),
    "card_burst": (featured_record(BURST), featured_record({**BURST, "card_count_30d": 19})),
    "terminal_rush": (featured_record(RUSH), featured_record({**RUSH, "terminal_count_1d": 6})),
    "terminal_dearer": (amount(10000, DEARER), amount(9999, DEARER)),
    "terminal_known_for_fraud": (
        featured_record({"terminal_fraud_share_7d": 0.5}),
        featured_record({"terminal_fraud_share_7d": 0.4}),
    ),
    "context_missing": (bound_record(context_status="MISSING"), bound_record(context_status="COMPLETE")),
    "context_partial": (bound_record(context_status="PARTIAL"), bound_record(context_status="COMPLETE")),
    "night_card_absent": (
        featured_record(NIGHT, arrival=place(channel="ECOM")),
        featured_record(NIGHT, arrival=place(channel="POS")),
    ),
    "risky_mcc": (amount(15000, arrival=place(mcc="7995")), amount(15000, arrival=place(mcc="5411"))),
    "first_seen_card_high_amount": (
        amount(22001, {"card_count_30d": 1, "card_mean_30d": 22001.0}),
        amount(22001, {"card_count_30d": 2, "card_mean_30d": 22001.0}),
    ),
    "card_testing": (featured_record(TESTING), featured_record({**TESTING, "card_mean_1d": 300.0})),
    "decided_without_features": (bound_record(traffic=with_amount(15000)), amount(15000)),
}


def test_every_rule_has_a_case_here() -> None:
    """A rule added to the policy without its record and neighbour fails."""
    assert set(CASES) == {rule.rule_id for rule in POLICY.rules}


@pytest.mark.parametrize("rule_id", CASES)
def test_each_rule_fires_on_its_record_and_not_on_the_neighbour(rule_id: str) -> None:
    """The neighbour differs in one fact only."""
    record, neighbour = CASES[rule_id]
    assert rule_id in fired(record)
    assert rule_id not in fired(neighbour)


def test_an_ordinary_transaction_raises_nothing() -> None:
    """Twenty-five dollars at the corner shop."""
    assert fired(featured_record()) == set()


def test_every_outcome_can_be_reached_and_asks_for_its_actions() -> None:
    """ALLOW, STEP_UP, REVIEW and BLOCK each come out of a plausible record."""
    made = [
        featured_record(),
        amount(5001, {"card_count_30d": 30}),
        bound_record(context_status="MISSING"),
        amount(60000, {"card_count_30d": 12}),
    ]
    decided = [decide(record, POLICY, NORMAL) for record in made]
    assert [d.decision["outcome"] for d in decided] == list(OUTCOMES)
    assert [[i["action"] for i in d.intents] for d in decided] == [
        [],
        ["request_step_up"],
        ["hold_for_review"],
        ["decline_authorisation", "notify_cardholder"],
    ]


def test_fail_closed_reviews_what_would_have_been_allowed() -> None:
    """The stand-in rules still block the extreme."""
    closed = Posture(Mode.FAIL_CLOSED, 9)
    assert decide(featured_record(), POLICY, closed).decision["outcome"] == "REVIEW"
    assert decide(amount(500000), POLICY, closed).decision["outcome"] == "BLOCK"
