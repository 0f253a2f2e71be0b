"""Decisions, their intents and their core digest."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fraud_daemons.domain.conditions import LABEL_FIELDS
from fraud_daemons.domain.decisions import decide, facts_of
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.domain.policy import parse_policy
from fraud_daemons.domain.posture import Mode, Posture
from tests.unit.made_records import RUN, bound_record, featured_record, with_amount

POLICY = parse_policy(
    tomllib.loads("""
policy_id = "test"
revision = 1
[thresholds]
step_up = 10
review = 20
block = 30
[actions]
BLOCK = ["decline_authorisation", "notify_cardholder"]
[[rules]]
id = "large"
reason = "large"
weight = 30
when = { field = "amount_minor", op = ">", value = 10000 }
[[rules]]
id = "busy"
reason = "busy"
weight = 10
when = { field = "card_count_1d", op = ">=", value = 5 }
"""),
    source="test",
)
NORMAL = Posture(Mode.NORMAL, 1)


def digest(record: dict[str, Any], posture: Posture = NORMAL) -> str:
    return str(decide(record, POLICY, posture).decision["core_digest"])


def test_an_ordinary_transaction_is_allowed_and_asks_for_nothing() -> None:
    """ALLOW has no intents and no reasons."""
    decided = decide(featured_record(), POLICY, NORMAL)
    assert (decided.decision["outcome"], decided.decision["reasons"], decided.intents) == ("ALLOW", [], ())
    assert decided.decision["decision_id"] == derived_id("decision", RUN, "f1")


def test_each_action_of_the_outcome_is_one_intent_under_a_derived_id() -> None:
    """Intents name the policy as their origin and carry what an executor needs."""
    decided = decide(featured_record(traffic=with_amount(20000)), POLICY, NORMAL)
    decision = decided.decision
    assert decision["outcome"] == "BLOCK"
    assert [intent["action"] for intent in decided.intents] == ["decline_authorisation", "notify_cardholder"]
    assert decision["intents"] == [
        derived_id("intent", decision["decision_id"], action)
        for action in ("decline_authorisation", "notify_cardholder")
    ]
    first = decided.intents[0]
    assert (first["origin"], first["parameters"]["card_token"]) == ("policy:test", "c1")


def test_without_features_the_decision_says_so() -> None:
    """A bound record is decided with feature_status ABSENT; rules that need features do not fire."""
    busy = {"card_count_1d": 9}
    with_features = decide(featured_record(busy), POLICY, NORMAL).decision
    without = decide(bound_record(), POLICY, NORMAL).decision
    assert (with_features["outcome"], with_features["feature_status"]) == ("STEP_UP", "PRESENT")
    assert (without["outcome"], without["feature_status"]) == ("ALLOW", "ABSENT")
    assert (without["features"], without["snapshot_hash"]) == (None, None)


@pytest.mark.parametrize("mode", [Mode.DEGRADED_2, Mode.FAIL_CLOSED])
def test_a_posture_without_features_ignores_those_of_the_record(mode: Mode) -> None:
    """Bound and featured record give the same decision, digest included: it does not matter which came first."""
    posture = Posture(mode, 3)
    featured = decide(featured_record({"card_count_1d": 9}), POLICY, posture).decision
    bound = decide(bound_record(), POLICY, posture).decision
    assert featured == bound
    assert featured["feature_status"] == "ABSENT"


@pytest.mark.parametrize(
    "change",
    [
        {"platform_run_id": "platform_20270101T000000Z"},
        {"sources": {"traffic": [3, 99]}},
        {"admitted_at": 99.0},
        {"bound_position": [0, 7]},
    ],
)
def test_the_core_digest_leaves_out_what_honest_runs_differ_in(change: dict[str, Any]) -> None:
    """Run, positions and wall time change nothing, nor does the posture's sequence."""
    assert digest(featured_record(**change)) == digest(featured_record())
    assert digest(featured_record(), Posture(Mode.NORMAL, 77)) == digest(featured_record())


@pytest.mark.parametrize(
    "record",
    [
        featured_record({"card_count_7d": 11}),
        featured_record(traffic=with_amount(2501)),
        featured_record(arrival=None, context_status="PARTIAL"),
        featured_record(occurred_at="2018-07-18T12:00:01.000000Z"),
        bound_record(),
    ],
)
def test_the_core_digest_covers_inputs_and_features(record: dict[str, Any]) -> None:
    """One other input, feature or status is another digest, even when the outcome is the same."""
    assert digest(record) != digest(featured_record())


def test_the_core_digest_covers_policy_and_mode() -> None:
    """Another revision or another rung is another digest."""
    assert digest(featured_record(), Posture(Mode.DEGRADED_1, 1)) != digest(featured_record())


def test_facts_hold_no_label() -> None:
    """Even a record that wrongly carries truth offers none to the rules."""
    record = featured_record(fraud=True, truth={"fraud": True})
    assert not LABEL_FIELDS & set(facts_of(record, record["features"]))


def test_facts_of_a_flow_without_context_are_absent() -> None:
    """A MISSING flow is decided from its traffic alone."""
    record = bound_record(
        anchor=None, arrival=None, entities=None, card_token=None, terminal_id=None, merchant_id=None,
        context_status="MISSING",
    )  # fmt: skip
    facts = facts_of(record, None)
    assert facts.get("mcc") is None
    assert (facts["amount_minor"], facts["hour_utc"], facts["context_status"]) == (2500, 12, "MISSING")
    assert decide(record, POLICY, NORMAL).decision["context_status"] == "MISSING"
