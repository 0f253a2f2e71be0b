"""Versioned policies: parsed from an already-read TOML table, checked as a whole, evaluated on the facts of a record.

    policy_id = "baseline"          revision = 3
    [thresholds]                    score from which an outcome holds: step_up <= review <= block
    [lists]                         name = ["text", ...]
    [actions]                       STEP_UP | REVIEW | BLOCK = ["action", ...]
    [[rules]]                       id, reason, weight (0..1000), outcome?, stand_in?, when = condition

A condition is `{all = [...]}`, `{any = [...]}`, `{not = {...}}` or a comparison
`{field, op, value | list, over?}`; `over` names a second number and compares the ratio field / over.

A field without a value makes its comparison *unknown*, not false: `not` of it stays unknown, and only a condition that
is plainly true fires. So a rule that needs what is absent never fires, and one that can do without it still does.
No rule can read a label; the names are refused, since a label on the way into a decision is a leak by definition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fraud_daemons.domain.actions import ACTIONS
from fraud_daemons.domain.conditions import Compiled, Facts, compile_condition
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.domain.posture import Mode, allows_unreviewed
from fraud_daemons.errors import ConfigurationError

OUTCOMES: Final = ("ALLOW", "STEP_UP", "REVIEW", "BLOCK")
"""From mild to severe; where several hold the most severe wins."""

_RANK: Final = {outcome: rank for rank, outcome in enumerate(OUTCOMES)}
_TOP_KEYS: Final = {"policy_id", "revision", "description", "thresholds", "lists", "actions", "rules"}
_RULE_KEYS: Final = {"id", "reason", "weight", "outcome", "stand_in", "when"}
WEIGHT_MAX: Final = 1000
RULES_MAX: Final = 500
SCORE_MAX: Final = WEIGHT_MAX * RULES_MAX
REVISION_MAX: Final = 2**31 - 1

FAIL_CLOSED_RULE: Final = "posture.fail_closed"
"""The id under which the posture itself gives its reason."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a rule that fired, its sentence and what it added to the score."""

    rule_id: str
    reason: str
    weight: int

    def as_dict(self) -> dict[str, Any]:
        return {"rule_id": self.rule_id, "reason": self.reason, "weight": self.weight}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of a policy on one record; `reasons` stand in the policy's order."""

    outcome: str
    score: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One checked rule. `fields` are all it reads; `fires` is None when what it needs is absent."""

    rule_id: str
    reason: str
    weight: int
    outcome: str | None
    stand_in: bool
    requires_features: bool
    fields: frozenset[str]
    fires: Callable[[Facts], bool | None] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """A checked policy; `digest` is the SHA-256 hex of its canonical form, comments and layout aside."""

    policy_id: str
    revision: int
    digest: str
    thresholds: tuple[tuple[int, str], ...]  # (score, outcome), mildest first
    rules: tuple[Rule, ...]
    lists: Mapping[str, frozenset[str]]
    actions: Mapping[str, tuple[str, ...]]
    table: Mapping[str, Any] = field(repr=False, compare=False)
    """The parsed table that `digest` is of: what a copy of the project needs to decide alike."""

    @property
    def requires_features(self) -> bool:
        """True when any rule reads the feature vector."""
        return any(rule.requires_features for rule in self.rules)

    def identity(self) -> dict[str, Any]:
        """How a decision names the policy."""
        return {"policy_id": self.policy_id, "revision": self.revision, "digest": self.digest}


def evaluate(policy: Policy, facts: Facts, mode: Mode = Mode.NORMAL) -> Evaluation:
    """Every rule on the facts; the score is the sum of weights, the outcome the most severe that score or rules say.

    Under FAIL_CLOSED only the stand-in rules are asked and the outcome is at least REVIEW.
    """
    unreviewed = allows_unreviewed(mode)
    reasons: list[Reason] = []
    score, rank = 0, 0
    for rule in policy.rules:
        if (unreviewed or rule.stand_in) and rule.fires(facts):
            score += rule.weight
            reasons.append(Reason(rule.rule_id, rule.reason, rule.weight))
            if rule.outcome is not None:
                rank = max(rank, _RANK[rule.outcome])
    for threshold, outcome in policy.thresholds:
        if score >= threshold:
            rank = max(rank, _RANK[outcome])
    if not unreviewed:
        rank = max(rank, _RANK["REVIEW"])
        reasons.append(Reason(FAIL_CLOSED_RULE, "posture is FAIL_CLOSED: nothing passes unreviewed", 0))
    return Evaluation(OUTCOMES[rank], score, tuple(reasons))


def actions_for(policy: Policy, outcome: str) -> tuple[str, ...]:
    """The actions the policy asks for under an outcome, in its order; none for ALLOW."""
    return policy.actions.get(outcome, ())


def parse_policy(document: Mapping[str, Any], *, source: str) -> Policy:
    """A policy from a parsed TOML table. Raises ConfigurationError with every problem, each naming its rule or key."""
    problems = [f"unknown key {key!r}" for key in document if key not in _TOP_KEYS]
    policy_id, revision = _identity(document, problems)
    thresholds = _thresholds(document.get("thresholds"), problems)
    lists = _lists(document.get("lists", {}), problems)
    actions = _actions(document.get("actions", {}), problems)
    rules = _rules(document.get("rules"), lists, problems)
    if problems:
        raise ConfigurationError(problems, source=source)
    return Policy(
        policy_id=policy_id,
        revision=revision,
        digest=hashlib.sha256(canonical_json(document)).hexdigest(),
        thresholds=thresholds,
        rules=rules,
        lists=lists,
        actions=actions,
        table=document,
    )


def _identity(document: Mapping[str, Any], problems: list[str]) -> tuple[str, int]:
    policy_id, revision = document.get("policy_id"), document.get("revision", 0)
    if not isinstance(document.get("description", ""), str):
        problems.append("description: must be a text")
    if not (isinstance(policy_id, str) and policy_id and len(policy_id) <= 64):
        problems.append("policy_id: must be a text of 1 to 64 characters")
        policy_id = ""
    if not _is_int(revision, 1, REVISION_MAX):
        problems.append("revision: must be a whole number from 1")
        return policy_id, 1
    return policy_id, int(revision)


def _thresholds(table: Any, problems: list[str]) -> tuple[tuple[int, str], ...]:
    names = ("step_up", "review", "block")
    if not isinstance(table, dict) or set(table) != set(names):
        problems.append("thresholds: must name exactly step_up, review and block")
        return ()
    if not all(_is_int(table[name], 1, SCORE_MAX) for name in names):
        problems.append(f"thresholds: must be whole numbers from 1 to {SCORE_MAX}")
        return ()
    scores = [table[name] for name in names]
    if scores != sorted(scores):
        problems.append(f"thresholds: step_up <= review <= block is broken by {scores}")
    return tuple(zip(scores, OUTCOMES[1:], strict=True))


def _lists(table: Any, problems: list[str]) -> dict[str, frozenset[str]]:
    if not isinstance(table, dict):
        problems.append("lists: must be a table of name = [texts]")
        return {}
    lists: dict[str, frozenset[str]] = {}
    for name, entries in table.items():
        lists[name] = frozenset()  # known by name in any case, so that its users are not reported as well
        if isinstance(entries, list) and entries and all(isinstance(entry, str) for entry in entries):
            lists[name] = frozenset(entries)
        else:
            problems.append(f"lists.{name}: must be a non-empty list of texts")
    return lists


def _actions(table: Any, problems: list[str]) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        problems.append("actions: must be a table of OUTCOME = [actions]")
        return {}
    actions: dict[str, tuple[str, ...]] = {}
    for outcome, names in table.items():
        if outcome not in OUTCOMES[1:]:
            problems.append(f"actions.{outcome}: must be one of {', '.join(OUTCOMES[1:])}")
        elif not isinstance(names, list) or len(set(map(str, names))) != len(names):
            problems.append(f"actions.{outcome}: must be a list of actions, each once")
        elif unknown := [name for name in names if name not in ACTIONS]:
            problems.append(f"actions.{outcome}: unknown {unknown}; known are {', '.join(ACTIONS)}")
        else:
            actions[outcome] = tuple(names)
    return actions


def _rules(tables: Any, lists: Mapping[str, frozenset[str]], problems: list[str]) -> tuple[Rule, ...]:
    if not (isinstance(tables, list) and 1 <= len(tables) <= RULES_MAX):
        problems.append(f"rules: must be 1 to {RULES_MAX} [[rules]] tables")
        return ()
    rules: list[Rule] = []
    seen: set[str] = set()
    for number, table in enumerate(tables, start=1):
        rule_id = table.get("id") if isinstance(table, dict) else None
        if not (isinstance(rule_id, str) and rule_id):
            problems.append(f"rule {number}: needs an id")
            continue
        if rule_id in seen or rule_id == FAIL_CLOSED_RULE:
            problems.append(f"rule {rule_id}: the id is used twice or reserved")
        seen.add(rule_id)
        found: list[str] = []
        rules.append(_rule(rule_id, table, lists, found))
        problems += [f"rule {rule_id}: {problem}" for problem in found]
    return tuple(rules)


def _rule(rule_id: str, table: Mapping[str, Any], lists: Mapping[str, frozenset[str]], problems: list[str]) -> Rule:
    problems += [f"unknown key {key!r}" for key in table if key not in _RULE_KEYS]
    reason, weight, outcome = table.get("reason"), table.get("weight", 0), table.get("outcome")
    stand_in = table.get("stand_in", False)
    if not (isinstance(reason, str) and reason):
        problems.append("needs a reason, one sentence for the person who reads the decision")
    if not _is_int(weight, 0, WEIGHT_MAX):
        problems.append(f"weight must be a whole number from 0 to {WEIGHT_MAX}")
        weight = 0
    elif weight == 0 and outcome is None:
        problems.append("has neither weight nor outcome, so it can change nothing")
    if outcome is not None and outcome not in OUTCOMES[1:]:
        problems.append(f"outcome must be one of {', '.join(OUTCOMES[1:])}")
        outcome = None
    if not isinstance(stand_in, bool):
        problems.append("stand_in must be true or false")
        stand_in = False
    compiled: Compiled = compile_condition(table.get("when"), lists, problems)
    if stand_in and compiled.requires_features:
        problems.append("a stand-in rule decides when features are away and may not read them")
    return Rule(
        rule_id=rule_id,
        reason=str(reason),
        weight=weight,
        outcome=outcome,
        stand_in=stand_in,
        requires_features=compiled.requires_features,
        fields=compiled.fields,
        fires=compiled.holds,
    )


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def rules_reading(policy: Policy, names: Sequence[str]) -> tuple[str, ...]:
    """Ids of the rules that read any of the named fields; what an operator asks before changing a feature."""
    wanted = frozenset(names)
    return tuple(rule.rule_id for rule in policy.rules if rule.fields & wanted)
