"""Connections do not grow with events: what opened a connection per small operation brought every pack down at once.

Counted on the servers (`pg_stat_database.sessions`), never in the workers. Workers and the gate's fixed threads open their
connections when they first need them and keep them; so a session that was opened over Gate-20, Gate-200 and the hold is
still there, and ten times the events open no more of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from fraud_daemons.acceptance.gates.scene import Scene, Servers
from fraud_daemons.acceptance.gates.sessions import Ages, Changes, between, unseen
from fraud_daemons.acceptance.gates.verdicts import Finding, judged, unmeasured

HOLD: Final = "liveness_idle_hold"
PHASES: Final = ("gate_20", "gate_200", HOLD)
FIRST_USES_MAX: Final = 8
"""Sessions that Gate-200 may open though Gate-20 did not: threads of the gate and rarely used stores that see their first
work only now. Fixed, and below what a connection per batch of Gate-200 would need."""


def measure(scene: Scene) -> Finding:
    """From the looks at the servers before Gate-20 and after each phase."""
    expected = _expected()
    missing = [phase for phase in ("begin", *PHASES) if phase not in scene.servers]
    if missing:
        return unmeasured(expected, f"nobody looked at the servers after {', '.join(missing)}")
    if hidden := unseen(scene.servers.values()):
        return unmeasured(expected, "; ".join(hidden))
    return judge(scene.servers, own=scene.own_sessions, ages=Ages.of(scene.profile))


def judge(looks: Mapping[str, Servers], *, own: Mapping[str, int], ages: Ages) -> Finding:
    """No session came and went with the events; Gate-200 and the hold opened no more than Gate-20 or first uses. `own` =
    how many the watching process itself had opened at each moment."""
    changes: dict[str, Changes] = {}
    for before, phase in pairwise(("begin", *PHASES)):
        changes[phase] = between(looks[before], looks[phase], ages=ages, own=own[phase] - own[before])
    wrong = [
        f"{phase}: {change.came_and_went} of {change.opened} sessions were opened and closed again"
        for phase, change in changes.items()
        if change.came_and_went > 0 and phase != HOLD  # who restarted while nothing flowed is the hold's own finding
    ]
    wrong += [f"{phase}: {said}" for phase, change in changes.items() for said in change.told if "counters" in said]
    first = changes[PHASES[0]].opened
    wrong += [
        f"{phase} opened {grown} sessions, {PHASES[0]} {first}: they grow"
        for phase, change in changes.items()
        if phase != PHASES[0] and (grown := change.opened - change.renewed) > max(first, FIRST_USES_MAX)
    ]
    last = looks[PHASES[-1]]
    there = sum(len(seen.sessions) for seen in last.values())
    figures = {phase: change.opened for phase, change in changes.items()}
    said = ", ".join(f"{phase} {opened}" for phase, opened in figures.items())
    return judged(
        expected=_expected(),
        good=f"sessions opened: {said}; {there} there, each opened once and kept",
        wrong=wrong,
        covered={"opened": figures, "there": there, "servers": sorted(last),
                 "renewed_by_age": sum(change.renewed for change in changes.values())},
    )  # fmt: skip


def _expected() -> str:
    return (
        f"every session opened over {', '.join(PHASES)} is kept; ten times the events open no more than the first ones did,"
        f" or {FIRST_USES_MAX} for first uses"
    )
