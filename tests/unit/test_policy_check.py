"""What `platform policy check` refuses, each with its rule and line."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fraud_daemons.config.policy_check import checked
from fraud_daemons.domain.explaining import worded
from fraud_daemons.domain.policy_reach import implies
from tests.line import ROOT

HEAD = """policy_id = "p"
revision = 1
[thresholds]
step_up = 30
review = 60
block = 100
"""
GOOD_RULE = """[[rules]]
id = "first"
reason = "large"
weight = 40
when = { field = "amount_minor", op = ">", value = 1000 }
"""


@pytest.mark.parametrize(
    ("text", "line", "rule", "words"),
    [
        ("colour = 1\n" + HEAD + GOOD_RULE, 1, None, "unknown key 'colour'"),
        ('import = "os"\n' + HEAD + GOOD_RULE, 1, None, "imports and runs nothing"),
        (HEAD.replace("= 60", '= "x"') + GOOD_RULE, 3, None, "whole numbers"),
        (HEAD + GOOD_RULE.replace("weight = 40", 'weight = "much"'), 10, "first", "weight must be"),
        (HEAD + GOOD_RULE.replace("weight = 40", "weight = 40\nhue = 2"), 11, "first", "unknown key 'hue'"),
        (HEAD + GOOD_RULE.replace("value = 1000", 'value = "x"'), 11, "first", "'x' is not"),
        (HEAD + GOOD_RULE.replace("amount_minor", "is_fraud"), 11, "first", "label"),
        (HEAD + GOOD_RULE.replace('{ field = "amount_minor", op = ">", value = 1000 }', "\"__import__('os')\""), 11, "first", "a condition is"),
        (HEAD + GOOD_RULE.replace('{ field', '{ all = [{ field = "amount_minor", op = "<", value = 5 }, { field').replace("1000 }", "1000 }] }"), 11, "first", "can never fire"),
        (HEAD + GOOD_RULE + GOOD_RULE, 12, "first", "used twice"),
        (HEAD + "[[rules]\n", 7, None, "not valid TOML"),
    ],
)  # fmt: skip
def test_a_defect_is_told_with_rule_and_line(text: str, line: int, rule: str | None, words: str) -> None:
    """Unknown field, wrong type, import, label, contradiction, repeated id, broken TOML: no policy comes of it."""
    policy, problems = checked(text, source="p")
    assert policy is None
    assert [(p.line, p.rule) for p in problems if words in p.problem] == [(line, rule)], [str(p) for p in problems]


BLOCKING = GOOD_RULE.replace("weight = 40", 'weight = 0\noutcome = "BLOCK"')


@pytest.mark.parametrize(
    ("first", "second", "unreachable"),
    [
        (BLOCKING, "weight = 10\nwhen = { field = 'amount_minor', op = '>', value = 2000 }", True),
        (BLOCKING, "weight = 10\nwhen = { field = 'amount_minor', op = '==', value = 1001 }", True),
        (BLOCKING, "weight = 10\nwhen = { field = 'amount_minor', op = '>', value = 999 }", False),
        (BLOCKING, "weight = 10\nstand_in = true\nwhen = { field = 'amount_minor', op = '>', value = 2000 }", False),
        (GOOD_RULE.replace("40", "100"), "weight = 10\nwhen = { field = 'amount_minor', op = '>', value = 2000 }", True),
        (GOOD_RULE, "weight = 10\nwhen = { field = 'amount_minor', op = '>', value = 2000 }", False),
        (GOOD_RULE.replace("40", "40\noutcome = 'REVIEW'"), "outcome = 'STEP_UP'\nwhen = { field = 'amount_minor', op = '>=', value = 1001 }", True),
        (GOOD_RULE.replace("40", "40\noutcome = 'STEP_UP'"), "outcome = 'REVIEW'\nwhen = { field = 'amount_minor', op = '>=', value = 1001 }", False),
    ],
)  # fmt: skip
def test_a_rule_that_an_earlier_one_always_precedes_is_unreachable(first: str, second: str, unreachable: bool) -> None:
    """Found where the earlier rule blocks, or the later one only has a milder outcome - and not where it still counts."""
    text = HEAD + first + f'[[rules]]\nid = "second"\nreason = "r"\n{second}\n'
    policy, problems = checked(text, source="p")
    assert (policy is None) is unreachable
    assert [(p.rule, p.line) for p in problems] == ([("second", first.count("\n") + 7)] if unreachable else [])


@pytest.mark.parametrize(
    ("narrow", "broad", "answer"),
    [
        ({"field": "mcc", "op": "==", "value": "4829"}, {"field": "mcc", "op": "in", "list": "risky"}, True),
        ({"field": "mcc", "op": "in", "list": "risky"}, {"field": "mcc", "op": "!=", "value": "1"}, True),
        ({"field": "pos_entry_mode", "op": "starts_with", "value": "091"}, {"field": "pos_entry_mode", "op": "starts_with", "value": "09"}, True),
        ({"field": "mcc", "op": "==", "value": "1"}, {"field": "mcc", "op": "present", "value": True}, True),
        ({"field": "hour_utc", "op": "<", "value": 3}, {"field": "hour_utc", "op": "<=", "value": 3}, True),
        ({"field": "hour_utc", "op": "<=", "value": 3}, {"field": "hour_utc", "op": "<", "value": 3}, False),
        ({"field": "hour_utc", "op": "<", "value": 3}, {"field": "mcc", "op": "==", "value": "1"}, False),
        ({"field": "hour_utc", "op": "<", "value": 3}, {"not": {"field": "hour_utc", "op": ">", "value": 5}}, False),
    ],
)  # fmt: skip
def test_implication_is_told_where_it_can_be_proved(narrow: Any, broad: Any, answer: bool) -> None:
    """Members, prefixes, presence, bounds; through `all` and `any`; what cannot be shown is no."""
    lists = {"risky": frozenset({"4829", "6051"})}
    other = {"field": "amount_minor", "op": ">", "value": 1}
    assert implies(narrow, broad, lists) is answer
    assert implies({"all": [other, narrow]}, broad, lists) is answer
    assert implies(narrow, {"any": [broad, other]}, lists) is answer
    assert implies({"any": [narrow, other]}, broad, lists) is False


def test_the_baseline_is_good() -> None:
    """The policy of the local profiles passes its own check, and every condition has words."""
    text = (ROOT / "config" / "policies" / "baseline.toml").read_text()
    policy, problems = checked(text, source="baseline")
    assert policy is not None, problems
    for rule in tomllib.loads(text)["rules"]:
        assert "{" not in worded(rule["when"])
