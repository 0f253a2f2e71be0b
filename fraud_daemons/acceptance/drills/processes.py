"""Workers killed and frozen, the supervisor killed and frozen."""

from __future__ import annotations

import signal
from typing import Any

import orjson

from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.recoveries import Recoveries
from fraud_daemons.acceptance.drills.stage import LOOK_EVERY_SECONDS, Stage
from fraud_daemons.acceptance.drills.witness import beats_of
from fraud_daemons.supervision.audit import FILE_NAME
from fraud_daemons.supervision.client import SupervisorClient

BETWEEN_KILLS_SECONDS = (0.3, 0.9)
READY_SECONDS_MAX = 60.0


def _worker_kill(stage: Stage) -> None:
    """SIGKILL for one worker after the other, chosen by the dice; each is looked at until it is ready again."""
    ends = stage.clock.monotonic() + stage.seconds
    recoveries = Recoveries()
    while not recoveries.kills or stage.clock.monotonic() < ends:
        worker, pid = stage.dice.choice(sorted(stage.workers().items()))
        stage.victims.add(worker)
        recoveries.killed(worker, pid, stage.clock.now())
        stage.signal(pid, signal.SIGKILL)
        _look_on(stage, recoveries, stage.dice.uniform(*BETWEEN_KILLS_SECONDS))
    stage.wait_for(lambda: recoveries.all_died(_audit(stage)), seconds=10, what="every death in the audit")
    stage.wait_for(
        lambda: _all_seen_ready(stage, recoveries), seconds=READY_SECONDS_MAX, what="every killed worker ready"
    )
    audit = _audit(stage)
    stage.fired["deaths_by_sigkill"] += len(recoveries.deaths(audit))
    if delays := recoveries.respawn_milliseconds(audit):
        stage.figures["respawn_ms"] = _spread(delays)
    if delays := recoveries.ready_seconds(audit):
        stage.figures["killed_to_ready_seconds"] = _spread([round(seconds, 2) for seconds in delays])


def _look_on(stage: Stage, recoveries: Recoveries, seconds: float) -> None:
    """Rest, looking at the heartbeats meanwhile."""
    until = stage.clock.monotonic() + seconds
    while (left := until - stage.clock.monotonic()) > 0:
        stage.rest(min(left, LOOK_EVERY_SECONDS))
        recoveries.look(beats_of(stage.profile))


def _all_seen_ready(stage: Stage, recoveries: Recoveries) -> bool:
    recoveries.look(beats_of(stage.profile))
    return not recoveries.open


def _spread(ordered: list[float]) -> dict[str, float]:
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"p50": ordered[len(ordered) // 2], "p99": p99, "max": ordered[-1], "count": len(ordered)}


def _audit(stage: Stage) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stage.profile.path(FILE_NAME).read_bytes().splitlines() if line]


def _worker_freeze(stage: Stage) -> None:
    """SIGSTOP for a worker, shorter than the watchdog's patience: it holds its place and nobody replaces it."""
    worker, pid = stage.dice.choice(sorted(stage.workers().items()))
    stage.figures["worker"] = worker
    with stage.frozen([pid]):
        stage.rest()
    stage.fired["same_pid_afterwards"] += stage.workers().get(worker) == pid


def _supervisor_kill(stage: Stage) -> None:
    """SIGKILL for supervisord: the kernel tells its children, and `up` begins with ending what is left."""
    pid = SupervisorClient(stage.profile.socket_path).snapshot().pid
    stage.signal(pid, signal.SIGKILL)
    stage.await_gone(pid)
    stage.fired["supervisor_gone"] += 1
    stage.rest(stage.dice.uniform(0.0, 1.0))
    stage.fired["up_again"] += stage.command("up") == 0


def _supervisor_freeze(stage: Stage) -> None:
    """SIGSTOP for supervisord: nobody watches, the workers go on."""
    client = SupervisorClient(stage.profile.socket_path)
    pid, before = client.snapshot().pid, stage.workers()
    with stage.frozen([pid]):
        stage.rest()
    stage.fired["same_pids_afterwards"] += stage.workers() == before


DRILLS = (
    Drill("worker-kill", "workers are killed (SIGKILL), one after the other", _worker_kill,
          ("sigkill_sent", "deaths_by_sigkill")),
    Drill("worker-freeze", "a worker is frozen (SIGSTOP) and thawed", _worker_freeze,
          ("sigstop_sent", "seen_stopped", "same_pid_afterwards")),
    Drill("supervisor-kill", "supervisord is killed (SIGKILL), then up", _supervisor_kill, ("supervisor_gone", "up_again")),
    Drill("supervisor-freeze", "supervisord is frozen (SIGSTOP) and thawed", _supervisor_freeze,
          ("seen_stopped", "same_pids_afterwards")),
)  # fmt: skip
