"""Parsing, checking and evaluating policies."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain.conditions import compile_condition
from fraud_daemons.domain.policy import FAIL_CLOSED_RULE, Policy, actions_for, evaluate, parse_policy, rules_reading
from fraud_daemons.domain.posture import Mode
from fraud_daemons.errors import ConfigurationError

DOCUMENT = tomllib.loads("""
policy_id = "small"
revision = 2
[thresholds]
step_up = 10
review = 20
block = 30
[lists]
risky = ["7995", "6051"]
[actions]
BLOCK = ["decline_authorisation", "notify_cardholder"]
REVIEW = ["hold_for_review"]
[[rules]]
id = "large"
reason = "large"
weight = 10
stand_in = true
when = { field = "amount_minor", op = ">", value = 1000 }
[[rules]]
id = "risky"
reason = "risky"
weight = 10
when = { field = "mcc", op = "in", list = "risky" }
[[rules]]
id = "busy"
reason = "busy"
weight = 10
when = { field = "card_count_1d", op = ">=", value = 5 }
[[rules]]
id = "blind"
reason = "blind"
outcome = "REVIEW"
when = { field = "context_status", op = "==", value = "MISSING" }
""")


def policy() -> Policy:
    return parse_policy(DOCUMENT, source="small")


def problems_of(**changes: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_policy({**copy.deepcopy(DOCUMENT), **changes}, source="small")
    return list(caught.value.problems)


def rule_problems(when: Any, **changes: Any) -> list[str]:
    rule = {"id": "r", "reason": "r", "weight": 1, "when": when, **changes}
    return problems_of(rules=[rule])


def holds(when: Any, **facts: Any) -> bool | None:
    problems: list[str] = []
    compiled = compile_condition(when, {"risky": frozenset({"7995"})}, problems)
    assert problems == []
    return compiled.holds(facts)


@pytest.mark.parametrize(
    ("facts", "outcome", "score"),
    [
        ({"amount_minor": 1000}, "ALLOW", 0),
        ({"amount_minor": 1001}, "STEP_UP", 10),
        ({"amount_minor": 1001, "mcc": "7995"}, "REVIEW", 20),
        ({"amount_minor": 1001, "mcc": "7995", "card_count_1d": 5}, "BLOCK", 30),
        ({"amount_minor": 1, "context_status": "MISSING"}, "REVIEW", 0),
        ({"amount_minor": 1001, "context_status": "MISSING"}, "REVIEW", 10),
    ],
)
def test_the_most_severe_of_score_and_rules_wins(facts: dict[str, Any], outcome: str, score: int) -> None:
    """Weights add up to a score with thresholds; a rule's own outcome can only make it more severe."""
    found = evaluate(policy(), facts)
    assert (found.outcome, found.score) == (outcome, score)


def test_reasons_stand_in_the_policys_order() -> None:
    """Every rule that fired is a reason with its sentence and weight, and no other is."""
    found = evaluate(policy(), {"mcc": "6051", "amount_minor": 5000})
    assert [reason.as_dict() for reason in found.reasons] == [
        {"rule_id": "large", "reason": "large", "weight": 10},
        {"rule_id": "risky", "reason": "risky", "weight": 10},
    ]


def test_fail_closed_asks_stand_in_rules_only_and_allows_nothing() -> None:
    """Nothing is let through unreviewed, and the posture is among the reasons."""
    found = evaluate(policy(), {"amount_minor": 1, "mcc": "7995", "card_count_1d": 9}, Mode.FAIL_CLOSED)
    assert (found.outcome, found.score) == ("REVIEW", 0)
    assert [reason.rule_id for reason in found.reasons] == [FAIL_CLOSED_RULE]
    large = evaluate(policy(), {"amount_minor": 5000}, Mode.FAIL_CLOSED)
    assert [reason.rule_id for reason in large.reasons] == ["large", FAIL_CLOSED_RULE]


def test_a_rule_that_needs_what_is_absent_does_not_fire() -> None:
    """Absent and null are unknown, and so is their negation."""
    leaf = {"field": "card_count_1d", "op": ">=", "value": 5}
    assert holds(leaf) is None
    assert holds(leaf, card_count_1d=None) is None
    assert holds({"not": leaf}) is None
    assert holds({"any": [leaf, {"field": "amount_minor", "op": ">", "value": 1}]}, amount_minor=2) is True
    assert holds({"all": [leaf, {"field": "amount_minor", "op": ">", "value": 1}]}, amount_minor=2) is None
    assert holds({"all": [leaf, {"field": "amount_minor", "op": ">", "value": 1}]}, amount_minor=1) is False


def test_a_ratio_without_a_base_is_unknown() -> None:
    """No mean and a mean of zero give no ratio, not an error."""
    ratio = {"field": "amount_minor", "over": "card_mean_30d", "op": ">", "value": 2.0}
    assert [holds(ratio, amount_minor=5, card_mean_30d=mean) for mean in (2.0, 2.5, 0.0, None)] == [
        True,
        False,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("leaf", "value", "expected"),
    [
        ({"field": "mcc", "op": "in", "list": "risky"}, "7995", True),
        ({"field": "mcc", "op": "not_in", "list": "risky"}, "7995", False),
        ({"field": "mcc", "op": "in", "value": ["1", "2"]}, "2", True),
        ({"field": "mcc", "op": "starts_with", "value": "79"}, "7995", True),
        ({"field": "mcc", "op": "!=", "value": "7995"}, "5411", True),
        ({"field": "mcc", "op": "present", "value": False}, None, True),
        ({"field": "mcc", "op": "present", "value": True}, None, False),
    ],
)
def test_the_ops_on_text(leaf: dict[str, Any], value: str | None, expected: bool) -> None:
    """Membership, prefix, equality, presence."""
    assert holds(leaf, mcc=value) is expected


@pytest.mark.parametrize(
    ("when", "part"),
    [
        ({"field": "amuont_minor", "op": ">", "value": 1}, "unknown field 'amuont_minor'"),
        ({"field": "amount_minor", "op": "~", "value": 1}, "unknown op '~'"),
        ({"field": "amount_minor", "op": ">", "value": "1"}, "is a number"),
        ({"field": "amount_minor", "op": ">", "value": float("nan")}, "is a number"),
        ({"field": "mcc", "op": ">", "value": "1"}, "cannot be ordered"),
        ({"field": "mcc", "op": "==", "value": 7995}, "is text"),
        ({"field": "mcc", "op": "in", "list": "nope"}, "unknown list 'nope'"),
        ({"field": "mcc", "op": "in", "value": []}, "non-empty list"),
        ({"field": "amount_minor", "op": ">"}, "give either value or list"),
        ({"field": "amount_minor", "over": "mcc", "op": ">", "value": 1}, "a ratio needs numbers"),
        ({"field": "context_status", "op": "==", "value": "LOST"}, "never 'LOST'"),
        ({"field": "is_night", "op": "present", "value": True}, "not a feature"),
        ({"all": []}, "none empty"),
        ({"all": [{"field": "mcc", "op": "present", "value": True}], "any": []}, "none empty"),
        (None, "none empty"),
    ],
)
def test_a_wrong_condition_is_named_with_its_rule(when: Any, part: str) -> None:
    """The message starts with the rule's id and says what would be right."""
    (problem,) = rule_problems(when)
    assert problem.startswith("rule r: ")
    assert part in problem


@pytest.mark.parametrize(
    "name", ["fraud", "is_fraud", "TX_FRAUD", "fraud_type", "label", "label_value", "truth.fraud", "chargeback_status"]
)
def test_no_rule_can_read_a_label(name: str) -> None:
    """Labels are refused by name, with the reason."""
    (problem,) = rule_problems({"field": name, "op": "==", "value": 1})
    assert "no decision may read a label" in problem


@pytest.mark.parametrize(
    "parts",
    [
        [("amount_minor", ">", 100), ("amount_minor", "<", 100)],
        [("amount_minor", ">=", 100), ("amount_minor", "<", 100)],
        [("amount_minor", "==", 5), ("amount_minor", ">", 5)],
        [("mcc", "==", "1"), ("mcc", "==", "2")],
        [("mcc", "in", ["1", "2"]), ("mcc", "not_in", ["2", "1"])],
        [("mcc", "present", False), ("mcc", "==", "1")],
    ],
)
def test_a_rule_that_can_never_fire_is_refused(parts: list[tuple[str, str, Any]]) -> None:
    """An empty interval or no value left is a mistake of the author, found at load."""
    leaves = [{"field": f, "op": op, "value": value} for f, op, value in parts]
    (problem,) = rule_problems({"all": leaves})
    assert "can never fire" in problem
    (nested,) = rule_problems({"any": [{"all": leaves}, {"all": leaves}]})
    assert "can never fire" in nested


@given(
    st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.integers(0, 4)), min_size=1, max_size=4)
)
def test_a_rule_is_refused_only_when_no_value_satisfies_it(leaves: list[tuple[str, int]]) -> None:
    """The judgement agrees with trying all values, halves included: no good rule is refused."""
    when = {"all": [{"field": "hour_utc", "op": op, "value": value} for op, value in leaves]}
    problems: list[str] = []
    compiled = compile_condition(when, {}, problems)
    satisfiable = any(compiled.holds({"hour_utc": half / 2}) for half in range(-2, 12))
    if satisfiable:
        assert problems == []
    else:
        only_excluded = all(op in ("<=", ">=", "!=") for op, _ in leaves)  # x <= 2, x >= 2, x != 2 goes unnoticed
        assert problems or only_excluded


def test_all_problems_come_together() -> None:
    """One load reports every mistake: keys, thresholds, actions, lists, rules."""
    rule = DOCUMENT["rules"][0]
    found = problems_of(
        colour="red",
        revision=0,
        thresholds={"step_up": 30, "review": 20, "block": 10},
        lists={"risky": []},
        actions={"BLOCK": ["explode"], "ALLOW": []},
        rules=[
            rule,
            rule,
            {**rule, "id": "weightless", "weight": 0},
            {**rule, "id": "heavy", "weight": 10**6},
            {**rule, "id": "odd", "outcome": "ALLOW"},
            {**rule, "id": "blind", "when": {"field": "is_night", "op": "==", "value": 1}},
            {"reason": "nameless"},
        ],
    )
    assert len(found) == 12
    assert any("id is used twice" in problem for problem in found)
    assert any(problem.startswith("rule blind: a stand-in rule") for problem in found)


def test_the_digest_follows_the_content_and_not_the_layout() -> None:
    """Key order does not matter, a weight does."""
    reordered = dict(reversed(DOCUMENT.items()))
    heavier = copy.deepcopy(DOCUMENT)
    heavier["rules"][0]["weight"] = 11
    assert parse_policy(reordered, source="x").digest == policy().digest
    assert parse_policy(heavier, source="x").digest != policy().digest


def test_what_a_policy_needs_and_asks_for() -> None:
    """Features are required because a rule reads them; actions come in the policy's order."""
    assert policy().requires_features
    assert rules_reading(policy(), ["card_count_1d"]) == ("busy",)
    assert actions_for(policy(), "BLOCK") == ("decline_authorisation", "notify_cardholder")
    assert actions_for(policy(), "ALLOW") == ()
    without = {**DOCUMENT, "rules": DOCUMENT["rules"][:2]}
    assert not parse_policy(without, source="x").requires_features
