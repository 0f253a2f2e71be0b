"""PostgreSQL gone or silent: stopped fast, stopped at once, killed, frozen, restarted while a pack drains."""

from __future__ import annotations

import signal
import threading

from fraud_daemons.acceptance.drills.drill import Drill, own_postgres
from fraud_daemons.acceptance.drills.stage import Stage, family_of
from fraud_daemons.errors import PlatformError, TransientFault
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.deployment import POSTGRES
from fraud_daemons.supervision.substrate import service

ACCEPTS_SECONDS_MAX = 60.0
COMMIT_SECONDS_MAX = 30.0
PACK_THAT_DRAINS = "decision_lane"
INTO_THE_DRAIN_SECONDS = 0.05
POLL_SECONDS = 0.02


def _stop_fast(stage: Stage) -> None:
    """SIGINT by way of the supervisor: every session is told 57P01, nobody listens until it is started again."""
    before = stage.service_pid(POSTGRES)
    with stage.stopped(POSTGRES):
        _away(stage, before)
    _measure_first_commit(stage)


def _stop_immediate(stage: Stage) -> None:
    """SIGQUIT: sessions are cut without a word, and the next start recovers from the log."""
    before = stage.service_pid(POSTGRES)
    stage.signal(before, signal.SIGQUIT)
    stage.await_gone(before)
    with stage.stopped(POSTGRES):  # the supervisor would have it back within milliseconds
        _away(stage, before)
    _measure_first_commit(stage)


def _away(stage: Stage, before: int) -> None:
    stage.fired["server_gone"] += not any(s.pid == before for s in stage.picture().substrate)
    began = stage.clock.monotonic()
    stage.rest()
    stage.fired["refused_looks"] += service.refusal(stage.deployment, POSTGRES) is not None
    stage.figures["outage_seconds"] = round(stage.clock.monotonic() - began, 2)


def _kill(stage: Stage) -> None:
    """SIGKILL, as often as fits: the supervisor brings it back within 2 s, each time with a recovery."""
    stage.kill_service(
        POSTGRES, serves=lambda: service.refusal(stage.deployment, POSTGRES) is None, rest_seconds=(0.5, 2.0)
    )
    _measure_first_commit(stage)


def _freeze(stage: Stage) -> None:
    """SIGSTOP for the server and all its sessions: nothing refuses, nothing answers, no keepalive tells."""
    with stage.frozen(family_of(stage.service_pid(POSTGRES))):
        stage.rest()
    _measure_first_commit(stage)


def _restart_during_drain(stage: Stage) -> None:
    """Killed while a pack drains: the drain ends within its deadline and the pack comes back."""
    failed: list[PlatformError] = []

    def restart() -> None:
        try:
            lifecycle.restart(stage.deployment, [PACK_THAT_DRAINS], operator=stage.operator)
            stage.fired["pack_restarted"] += 1
        except PlatformError as error:
            failed.append(error)

    operator = threading.Thread(target=restart, name="restart")
    operator.start()
    stage.rest(INTO_THE_DRAIN_SECONDS)
    pid = stage.service_pid(POSTGRES)
    stage.signal(pid, signal.SIGKILL)
    stage.await_gone(pid)
    stage.fired["server_gone"] += 1
    operator.join()
    if failed:
        raise failed[0]
    _measure_first_commit(stage)


def _await_accepts(stage: Stage) -> None:
    stage.wait_for(
        lambda: service.refusal(stage.deployment, POSTGRES) is None, seconds=ACCEPTS_SECONDS_MAX, what="a login"
    )


def _measure_first_commit(stage: Stage) -> None:
    """From the server's first accepted login to the first record that some worker commits to the bus after it."""
    _await_accepts(stage)
    accepts = stage.clock.monotonic()
    before: int | None = None
    while before is None or _published(stage) == before:
        if stage.clock.monotonic() > accepts + COMMIT_SECONDS_MAX:
            return  # nothing was to be written any more: no figure rather than a wrong one
        before = _published(stage) if before is None else before
        stage.rest(POLL_SECONDS)
    stage.figures["first_commit_seconds"] = round(stage.clock.monotonic() - accepts, 2)


def _published(stage: Stage) -> int | None:
    try:
        with stage.owner() as connection:
            row = connection.execute("select sum(next_position) from bus.heads").fetchone()
    except TransientFault:
        return None
    return int(row[0]) if row else None


_GONE = ("server_gone", "refused_looks")

DRILLS = (
    Drill("postgres-restart", "PostgreSQL is stopped (fast) and started again", _stop_fast, _GONE, needs=own_postgres),
    Drill("postgres-stop-immediate", "PostgreSQL is stopped at once (SIGQUIT) and started again", _stop_immediate,
          ("sigquit_sent", *_GONE), needs=own_postgres),
    Drill("postgres-kill", "PostgreSQL is killed (SIGKILL), again and again", _kill,
          ("sigkill_sent", "server_gone"), needs=own_postgres),
    Drill("postgres-freeze", "PostgreSQL and its sessions are frozen (SIGSTOP)", _freeze,
          ("sigstop_sent", "seen_stopped"), seconds=30.0, needs=own_postgres),
    Drill("postgres-restart-in-drain", f"PostgreSQL is killed while {PACK_THAT_DRAINS} drains", _restart_during_drain,
          ("server_gone", "pack_restarted"), needs=own_postgres),
)  # fmt: skip
