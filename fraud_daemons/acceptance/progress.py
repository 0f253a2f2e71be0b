"""Waits until every stage has caught up (`state.progress` says which has not), and not for a worker that is held."""

from __future__ import annotations

from pathlib import Path

from fraud_daemons.clock import Clock
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.observability.heartbeat import read_heartbeat
from fraud_daemons.runtime.database import DatabaseOf, connections
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state.progress import Behind, behind

LOOK_EVERY_SECONDS = 0.1
QUIET_LOOKS = 2  # a worker may be between reading its last record and publishing the next stage's first


def refuse_held(beats: Path) -> None:
    """Raise CommandError when a worker is held: waiting for it would last until somebody resumes it."""
    for path in sorted(beats.glob("*.json")):
        beat = read_heartbeat(path)
        if beat is not None and beat.state == "held" and not beat.process.alive():
            raise CommandError(
                f"{beat.worker} is held ({beat.reason}); put it right, then: platform resume {beat.worker}."
                " Nothing is lost: what waits goes on from there",
                exit_code=ExitCode.NO,
            )


def wait_until_caught_up(database_of: DatabaseOf, *, beats: Path, clock: Clock, timeout_seconds: float) -> None:
    """Return when nothing is behind on two looks in a row.

    Raises CommandError naming the stages when time is up, and at once when a worker is held.
    """
    deadline = clock.monotonic() + timeout_seconds
    stop = StopRequest()
    quiet, last = 0, [Behind("platform", "a first look", 0)]
    while quiet < QUIET_LOOKS:
        if clock.monotonic() > deadline:
            raise CommandError(
                f"not caught up after {timeout_seconds:.0f} s: {'; '.join(str(b) for b in last[:3])};"
                " see: platform status -v, platform logs",
                exit_code=ExitCode.NO,
            )
        refuse_held(beats)
        last = _look(database_of)
        quiet = quiet + 1 if not last else 0
        stop.rest(LOOK_EVERY_SECONDS)


def _look(database_of: DatabaseOf) -> list[Behind]:
    try:
        with connections(database_of) as at:
            return behind(at)
    except TransientFault as fault:  # the database restarts under us: that is no answer, and no failure either
        return [Behind("platform", fault.reason, 0)]
