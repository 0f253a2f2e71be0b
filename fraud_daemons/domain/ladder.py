"""From health signals to a rung: down at once, up only after a quiet period. Pure: no I/O, no clock, no logging.

A signal is ill when it has been bad for longer than its patience; the rung it asks for stands in the profile. The worst
rung that an ill signal asks for is in force. What is bad is told by whoever looks: `stalled` for a stage that has
records before it and moves none of them. Lag alone is not ill - a busy stage lags - and event time is compared with
nothing: a replayed world is as healthy as a live one.

Time is counted in looks: a look that came late counts as `LOOK_SECONDS_MAX`, because a machine that held up the one who
looks held up everybody, and that says nothing about the stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraud_daemons.domain.posture import Mode, severity, worst

FEATURES: Final = "features"
GRAPH: Final = "graph"
STORE: Final = "store"
POLICY: Final = "policy"
SIGNALS: Final = (FEATURES, GRAPH, STORE, POLICY)

LOOK_SECONDS_MAX: Final = 0.5


@dataclass(frozen=True, slots=True)
class Rule:
    """What a signal means: the rung it asks for, and for how long it must be bad first."""

    rung: Mode
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one signal."""

    signal: str
    bad: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands: the sum of its positions, and how many records wait before it."""

    position: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Step:
    """A change of posture: one row."""

    mode: Mode
    reason: str
    signals: dict[str, Any]


def stalled(before: Progress | None, now: Progress) -> bool:
    """Whether records wait and none was taken since the look before. An idle stage is well, and so is a slow one."""
    return before is not None and min(before.waiting, now.waiting) > 0 and now.position == before.position


class Ladder:
    """What the looks until now add up to. Small and bounded: one figure per signal."""

    def __init__(self, rules: Mapping[str, Rule], *, quiet_seconds: float) -> None:
        self._rules = rules
        self._quiet_seconds = quiet_seconds
        self._bad_for: dict[str, float] = {}
        self._quiet_for = 0.0

    def observe(self, elapsed: float, looks: Sequence[Look], current: Mode) -> Step | None:
        """The step to take after `elapsed` seconds with these `looks`, None to stay on `current`."""
        elapsed = min(max(elapsed, 0.0), LOOK_SECONDS_MAX)
        for look in looks:
            self._bad_for[look.signal] = self._bad_for.get(look.signal, 0.0) + elapsed if look.bad else 0.0
        ill = [look for look in looks if look.bad and self._is_ill(look.signal)]
        wanted = worst(*(self._rules[look.signal].rung for look in ill))
        if severity(wanted) > severity(current):
            self._quiet_for = 0.0
            return Step(wanted, "; ".join(f"{look.signal}: {look.detail}" for look in ill), self._told(looks, ill))
        # a signal that only begins to be bad already ends the quiet
        if severity(wanted) == severity(current) or any(self._holds(look, current) for look in looks):
            self._quiet_for = 0.0
            return None
        self._quiet_for += elapsed
        if self._quiet_for < self._quiet_seconds:
            return None
        self._quiet_for = 0.0
        reason = f"quiet for {self._quiet_seconds:g} s" + "".join(
            f"; still {look.signal}: {look.detail}" for look in ill
        )
        return Step(wanted, reason, self._told(looks, ill))

    def _is_ill(self, signal: str) -> bool:
        return self._bad_for[signal] >= self._rules[signal].patience_seconds

    def _holds(self, look: Look, current: Mode) -> bool:
        """Whether a look is bad in a way that could keep the posture where it is."""
        return look.bad and severity(self._rules[look.signal].rung) >= severity(current)

    def _told(self, looks: Sequence[Look], ill: Sequence[Look]) -> dict[str, Any]:
        return {
            look.signal: {
                "ill": look in ill,
                "bad_seconds": round(self._bad_for[look.signal], 2),
                "rung": str(self._rules[look.signal].rung),
                "detail": look.detail,
            }
            for look in looks
        }
