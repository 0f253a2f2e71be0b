"""Everything that is wrong with a policy's text, each with its rule and line; nothing is half accepted.

A policy is data: it imports nothing, includes nothing and calls nothing, and it can read no label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fraud_daemons.config.policies import document_of
from fraud_daemons.domain.policy import Policy, parse_policy
from fraud_daemons.domain.policy_reach import unreachable
from fraud_daemons.errors import ConfigurationError

TEXT_MAX: Final = 1024 * 1024  # 500 rules take a tenth of it
_CODE_KEYS: Final = frozenset(
    {"import", "include", "extends", "from", "python", "exec", "eval", "script", "module", "code"}
)
_RULE: Final = re.compile(r"rule (\S+): (.*)", re.DOTALL)
_QUOTED: Final = re.compile(r"'([^']+)'")
_AT: Final = re.compile(r"at line (\d+)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `rule` is its rule's id, None where it belongs to none; `line` counts from 1."""

    line: int
    rule: str | None
    problem: str

    def __str__(self) -> str:
        where = f"line {self.line}" if self.rule is None else f"line {self.line}, rule {self.rule}"
        return f"{where}: {self.problem}"


def checked(text: str, *, source: str) -> tuple[Policy | None, list[Problem]]:
    """The policy in the text, and every problem in the order of its lines; a policy only when there is none."""
    if len(text) > TEXT_MAX:
        return None, [Problem(1, None, f"longer than {TEXT_MAX} characters")]
    try:
        document = document_of(text, source=source)
        policy = parse_policy(document, source=source)
    except ConfigurationError as error:
        return None, _sorted(_placed(text, problem) for problem in error.problems)
    found = [_placed(text, f"rule {rule}: {why}") for rule, why in unreachable(document)]
    return (None if found else policy), _sorted(found)


def _sorted(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda each: each.line)


def _placed(text: str, problem: str) -> Problem:
    """A problem of the parser with its line; the line of its rule where nothing closer can be found."""
    lines = text.splitlines() or [""]
    if found := _AT.search(problem):
        return Problem(int(found[1]), None, problem)
    if "at end of document" in problem:
        return Problem(len(lines), None, problem)
    ruled = _RULE.match(problem)
    if ruled is None:
        return Problem(_line_of(lines, problem, 0, _first_table(lines)), None, _explained(problem))
    rule, what = ruled[1], ruled[2]
    first, last = _block(lines, rule)
    return Problem(_line_of(lines, what, first, last), rule, _explained(what))


def _explained(problem: str) -> str:
    named = _QUOTED.search(problem)
    if problem.startswith("unknown key") and named and named[1].lower() in _CODE_KEYS:
        return f"{problem}: a policy is data, it imports and runs nothing"
    return problem


def _block(lines: list[str], rule: str) -> tuple[int, int]:
    """First and last-plus-one index of a rule's lines; `rule` is its id, or its number where it has none."""
    heads = [index for index, line in enumerate(lines) if line.strip().startswith("[[rules]]")]
    owners = [index for index, line in enumerate(lines) if re.search(rf"\bid\s*=\s*[\"']{re.escape(rule)}[\"']", line)]
    if owners:  # a repeated id is the fault of the last
        begin = max((head for head in heads if head <= owners[-1]), default=owners[-1])
    elif rule.isdigit() and 1 <= int(rule) <= len(heads):
        begin = heads[int(rule) - 1]
    else:
        return 0, len(lines)
    return begin, min((head for head in heads if head > begin), default=len(lines))


def _first_table(lines: list[str]) -> int:
    """Index behind what is not a rule."""
    return next((index for index, line in enumerate(lines) if line.strip().startswith("[[rules]]")), len(lines))


def _line_of(lines: list[str], problem: str, first: int, last: int) -> int:
    """The line that holds what the problem names: a quoted name, else the key or table it begins with."""
    words = [re.escape(word) for word in _QUOTED.findall(problem)[:1]]
    words += [rf"^\s*\[?\s*(lists\.|actions\.)?{re.escape(word)}\s*[\]=]" for word in _keys(problem)]
    for word in words:
        for index in range(first, last):
            if re.search(word, lines[index]):
                return index + 1
    return first + 1


def _keys(problem: str) -> list[str]:
    """Keys that a problem speaks of: `lists.names: …`, `weight must be …`, `a condition …`."""
    head = problem.split(":")[0].split()[0] if problem else ""
    named = "when" if "condition" in problem else "reason" if "a reason" in problem else ""
    return [word for word in (*reversed(head.split(".")), named) if word]
