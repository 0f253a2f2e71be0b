"""Why a decision came out as it did: each rule with what it asked, what it saw and whether it fired, and what would have
changed the outcome. Computed again from the policy's text and the record the decision was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fraud_daemons.domain.decisions import facts_of
from fraud_daemons.domain.policy import OUTCOMES, Evaluation, Policy, evaluate
from fraud_daemons.domain.posture import Mode, allows_unreviewed

_OPS = {"==": "is", "!=": "is not", "in": "is one of", "not_in": "is none of", "starts_with": "starts with"}


@dataclass(frozen=True, slots=True)
class ExplainedRule:
    """One rule on one record. `fired` None = something it needs is not known; `asked` False = the posture forbids it."""

    rule_id: str
    reason: str
    weight: int
    outcome: str | None
    condition: str
    saw: dict[str, Any]
    asked: bool
    fired: bool | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole of it. `same` = the policy, asked again, gives the stored outcome and score."""

    outcome: str
    score: int
    same: bool
    rules: tuple[ExplainedRule, ...]
    thresholds: tuple[tuple[str, int], ...]
    would_change: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def explain(
    decision: Mapping[str, Any], record: Mapping[str, Any], policy: Policy, document: Mapping[str, Any]
) -> Explanation:
    """`record` is the bound or featured record, `document` the policy's table; features are those of the decision."""
    mode = Mode(decision["posture"]["mode"])
    facts = facts_of(record, decision["features"])
    evaluation = evaluate(policy, facts, mode)
    whens = {rule["id"]: rule["when"] for rule in document["rules"]}
    rules = tuple(
        ExplainedRule(
            rule.rule_id,
            rule.reason,
            rule.weight,
            rule.outcome,
            worded(whens[rule.rule_id]),
            {name: facts.get(name) for name in sorted(rule.fields)},
            asked := allows_unreviewed(mode) or rule.stand_in,
            rule.fires(facts) if asked else None,
        )
        for rule in policy.rules
    )
    return Explanation(
        evaluation.outcome,
        evaluation.score,
        (evaluation.outcome, evaluation.score) == (decision["outcome"], decision["score"]),
        rules,
        tuple((outcome, score) for score, outcome in policy.thresholds),
        tuple(_changes(policy, facts, mode, evaluation)),
    )


def worded(condition: Mapping[str, Any]) -> str:
    """A condition as a person reads it."""
    if "all" in condition:
        return " and ".join(_bracketed(part) for part in condition["all"])
    if "any" in condition:
        return " or ".join(_bracketed(part) for part in condition["any"])
    if "not" in condition:
        return f"not ({worded(condition['not'])})"
    name = condition["field"] + (f" / {condition['over']}" if "over" in condition else "")
    if condition["op"] == "present":
        return f"{name} is {'known' if condition['value'] else 'not known'}"
    operand = f"the list {condition['list']}" if "list" in condition else _value(condition["value"])
    return f"{name} {_OPS.get(condition['op'], condition['op'])} {operand}"


def _bracketed(condition: Mapping[str, Any]) -> str:
    return f"({worded(condition)})" if "any" in condition or "all" in condition else worded(condition)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _changes(policy: Policy, facts: Mapping[str, Any], mode: Mode, found: Evaluation) -> Iterator[str]:
    """Single things that would have made it milder, and how far the next harder outcome was."""
    for reason in found.reasons:
        without = replace(policy, rules=tuple(rule for rule in policy.rules if rule.rule_id != reason.rule_id))
        if len(without.rules) == len(policy.rules):  # the posture's own reason
            other = evaluate(policy, facts, Mode.NORMAL).outcome
            if other != found.outcome:
                yield f"under NORMAL and with the same features known it would be {other}"
        elif (other := evaluate(without, facts, mode).outcome) != found.outcome:
            yield f"without {reason.rule_id} it would be {other}"
    for score, outcome in policy.thresholds:
        if OUTCOMES.index(outcome) > OUTCOMES.index(found.outcome):
            yield f"{score - found.score} more points would make it {outcome}"
            return


def seen(values: Mapping[str, Any]) -> str:
    """What a rule saw, as a person reads it."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def told_rules(rules: Sequence[ExplainedRule]) -> Iterator[tuple[str, str, ExplainedRule]]:
    """(heading, mark, rule): those that fired first, then those that did not, then those that could not be asked."""
    for rule in rules:
        if rule.fired:
            yield "fired", "+", rule
    for rule in rules:
        if rule.asked and rule.fired is False:
            yield "did not fire", "-", rule
    for rule in rules:
        if rule.asked and rule.fired is None:
            yield "could not tell: something they need is not known", "?", rule
    for rule in rules:
        if not rule.asked:
            yield "not asked: the posture allows stand-in rules only", "/", rule
