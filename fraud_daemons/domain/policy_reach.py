"""Rules that can never change an outcome because an earlier one always speaks first.

A rule is unreachable when another rule before it fires whenever it does and already decides as severely as it could:
the earlier one blocks (by outcome, or by a weight that reaches the block threshold), or the later one has no weight and
an outcome that is no more severe. That "fires whenever" is proved from the conditions' shape - comparison by comparison,
bounds, members, prefixes, branches - and what cannot be proved is not reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fraud_daemons.domain.conditions import allowed_values, satisfied_by
from fraud_daemons.domain.policy import OUTCOMES

Condition = Mapping[str, Any]
Lists = Mapping[str, frozenset[str]]
_RISING: Final = (">", ">=")
_FALLING: Final = ("<", "<=")


def unreachable(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(rule id, why) for every rule of a checked policy document that can never change an outcome."""
    lists = {name: frozenset(entries) for name, entries in document.get("lists", {}).items()}
    rules = document["rules"]
    for index, rule in enumerate(rules):
        for earlier in rules[:index]:
            if _decides_all(earlier, rule, document["thresholds"]["block"]) and implies(
                rule["when"], earlier["when"], lists
            ):
                yield rule["id"], f"unreachable: rule {earlier['id']!r} fires whenever it does and decides no less"
                break


def _decides_all(earlier: Mapping[str, Any], rule: Mapping[str, Any], block: int) -> bool:
    """Whether the earlier rule, where it fires, leaves the later one nothing to change, under every posture."""
    if rule.get("stand_in", False) and not earlier.get("stand_in", False):
        return False  # under FAIL_CLOSED only the later one is asked
    if earlier.get("outcome") == OUTCOMES[-1] or earlier.get("weight", 0) >= block:
        return True
    ranks = [OUTCOMES.index(each.get("outcome") or OUTCOMES[0]) for each in (earlier, rule)]
    return rule.get("weight", 0) == 0 and ranks[0] >= ranks[1]


def implies(narrow: Condition, broad: Condition, lists: Lists) -> bool:
    """Whether `broad` is provably true wherever `narrow` is; False also where it only cannot be shown."""
    if narrow == broad:
        return True
    if "all" in broad:
        return all(implies(narrow, part, lists) for part in broad["all"])
    if "any" in narrow:
        return all(implies(part, broad, lists) for part in narrow["any"])
    if "any" in broad:
        return any(implies(narrow, part, lists) for part in broad["any"])
    if "all" in narrow:
        return any(implies(part, broad, lists) for part in narrow["all"])
    return "field" in narrow and "field" in broad and _leaf_implies(narrow, broad, lists)


def _leaf_implies(narrow: Condition, broad: Condition, lists: Lists) -> bool:
    if broad["op"] == "present" and broad["value"] is True and narrow["op"] != "present":
        return broad["field"] in (narrow["field"], narrow.get("over"))
    if (narrow["field"], narrow.get("over")) != (broad["field"], broad.get("over")) or narrow["op"] == "present":
        return False
    if broad["op"] == "present":
        return False
    values = allowed_values(narrow, lists)
    if values is not None:
        return all(satisfied_by(broad, lists, value) for value in values)
    for ops in (_RISING, _FALLING):
        if narrow["op"] in ops and broad["op"] in ops:
            strict = narrow["op"] == ops[0]
            inside = narrow["value"] > broad["value"] if ops is _RISING else narrow["value"] < broad["value"]
            return bool(inside) or (narrow["value"] == broad["value"] and (strict or broad["op"] == ops[1]))
    if narrow["op"] == broad["op"] == "starts_with":
        return bool(narrow["value"].startswith(broad["value"]))
    return False
