"""The idle hold: nothing flows, and nothing may happen. The incident began *after* the stream had passed.

Looked at every half second: each process and its restarts, each worker's beat and since when it has been ready (so that a
lapse between two looks shows too), and the sessions of each server. A session that replaces one of the same name which had
reached its age is a renewal, no new session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from fraud_daemons.acceptance.gates.scene import Scene, Servers
from fraud_daemons.acceptance.gates.sessions import Ages, between, unseen
from fraud_daemons.acceptance.gates.verdicts import Finding, judged
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.status.picture import READY, PlatformPicture

LOOK_EVERY_SECONDS: Final = 0.5
LOOKS_APART_SECONDS_MAX: Final = 5.0
"""Further apart than this the hold was not watched; a busy machine may be late by a few looks."""
IDLE_IN_TRANSACTION_SECONDS_MAX: Final = 2.0
"""A worker's transaction may be between two statements for a moment; the server itself ends one at 5 s."""


@dataclass(frozen=True)
class Look:
    """One sample. `at_seconds` since the hold began."""

    at_seconds: float
    picture: PlatformPicture
    beats: Mapping[str, Heartbeat | None]
    servers: Servers


@dataclass
class Hold:
    """Everything seen during the hold."""

    seconds: float
    before: Servers
    looks: list[Look] = field(default_factory=list)
    after: Servers = field(default_factory=dict)
    own_sessions: int = 0
    """Sessions that the watching process opened meanwhile."""


def measure(scene: Scene) -> Finding:
    """Watch for `scene.hold_seconds`, then judge."""
    scene.tell(f"holding still for {scene.hold_seconds:g} s")
    own, began = scene.own_sessions_opened(), scene.clock.monotonic()
    hold = Hold(scene.hold_seconds, scene.look_at_servers())
    while not hold.looks or scene.clock.monotonic() - began < scene.hold_seconds:
        at = scene.clock.monotonic() - began
        hold.looks.append(Look(at, scene.look(), scene.read_beats(), scene.look_at_servers()))
        scene.rest(max(0.0, began + at + LOOK_EVERY_SECONDS - scene.clock.monotonic()))
    hold.after = scene.note_servers("liveness_idle_hold")
    hold.own_sessions = scene.own_sessions_opened() - own
    scene.samples = len(hold.looks)
    return judge(hold, ages=Ages.of(scene.profile))


def judge(hold: Hold, *, ages: Ages) -> Finding:
    """Nobody restarted, nobody not ready for a moment, no new session, nobody idle in a transaction, and all of it seen."""
    wrong = [*_restarted(hold.looks), *_not_ready(hold.looks), *_idle_in_transaction(hold.looks)]
    seen = [look.servers for look in hold.looks]
    hidden = unseen([hold.before, *seen, hold.after])
    changes = between(hold.before, hold.after, ages=ages, own=hold.own_sessions, seen=seen)
    wrong += hidden or changes.told
    times = [look.at_seconds for look in hold.looks] + [hold.seconds]
    apart = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
    if apart > LOOKS_APART_SECONDS_MAX:
        wrong.append(f"nobody looked for {apart:.1f} s: the hold was not watched")
    sessions = sum(len(seen.sessions) for seen in hold.after.values())
    return judged(
        expected=f"{hold.seconds:g} s, a look every {LOOK_EVERY_SECONDS:g} s: no restart, no second not ready, no new"
        " database session, nobody idle in a transaction",
        good=f"{len(hold.looks)} looks in {hold.seconds:g} s, at most {apart:.1f} s apart: none; {sessions} sessions all"
        f" along, {changes.renewed} of them renewed by age",
        wrong=wrong,
        covered={
            "seconds": hold.seconds, "looks": len(hold.looks), "longest_between_looks_seconds": round(apart, 3),
            "sessions": sessions, "sessions_renewed_by_age": changes.renewed,
        },
        measured=apart <= LOOKS_APART_SECONDS_MAX and (not hidden or wrong != hidden),
    )  # fmt: skip


def _restarted(looks: Sequence[Look]) -> list[str]:
    """By the supervisor's count and by pid: a process that came back within a look shows in both."""
    first = {worker.worker: worker for worker in looks[0].picture.workers}
    told: dict[str, str] = {}
    for look in looks[1:]:
        for worker in look.picture.workers:
            before = first[worker.worker]
            if worker.restarts != before.restarts or (worker.pid and worker.pid != before.pid):
                times = worker.restarts - before.restarts
                told[worker.worker] = f"{worker.worker}: restarted ({times} times without being asked to)"
    return list(told.values())


def _not_ready(looks: Sequence[Look]) -> list[str]:
    told: dict[str, str] = {}
    for look in looks:
        for worker in look.picture.workers:
            if worker.status != READY:
                said = f" ({worker.reason})" if worker.reason else ""
                told.setdefault(worker.worker, f"{worker.worker}: {worker.status}{said} at {look.at_seconds:.1f} s")
        for service in look.picture.substrate:
            if service.status != READY:
                told.setdefault(service.service, f"{service.service}: {service.status} at {look.at_seconds:.1f} s")
    first = looks[0].beats
    for look in looks[1:]:
        for name, beat in look.beats.items():
            before = first.get(name)
            if beat and before and beat.process == before.process and beat.since_monotonic != before.since_monotonic:
                told.setdefault(name, f"{name}: left its state between two looks before {look.at_seconds:.1f} s")
    return list(told.values())


def _idle_in_transaction(looks: Sequence[Look]) -> list[str]:
    told: dict[tuple[int, str], str] = {}
    for look in looks:
        for seen in look.servers.values():
            for session in seen.sessions:
                if (
                    session.state.startswith("idle in transaction")
                    and session.state_seconds > IDLE_IN_TRANSACTION_SECONDS_MAX
                ):
                    told[session.identity] = (
                        f"session {session.name or 'without a name'} (pid {session.pid}): idle in transaction for"
                        f" {session.state_seconds:.1f} s"
                    )
    return list(told.values())
