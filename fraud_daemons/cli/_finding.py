"""One thing that `platform check` looked at: good, wrong, or not to be known now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What was looked at, what is wrong with it, and why it could not be looked at."""

    what: str
    problem: str | None = None
    not_checked: str | None = None

    def __str__(self) -> str:
        if self.problem:
            return f"  WRONG  {self.what}: {self.problem}"
        return f"  -      {self.what}: not checked: {self.not_checked}" if self.not_checked else f"  ok     {self.what}"

    def to_json(self) -> dict[str, Any]:
        """`ok` is null for what was not checked."""
        verdict = None if self.not_checked else self.problem is None
        return {"check": self.what, "ok": verdict, "problem": self.problem, "not_checked": self.not_checked}


def ok(what: str) -> Finding:
    """It was looked at and is good."""
    return Finding(what)


def wrong(what: str, problem: str) -> Finding:
    """It was looked at and cannot stay so."""
    return Finding(what, problem=problem)


def not_checked(what: str, why: str) -> Finding:
    """It could not be looked at; no verdict."""
    return Finding(what, not_checked=why)


def judged(what: str, problem: str | None) -> Finding:
    """Good when there is no problem."""
    return Finding(what, problem=problem)
