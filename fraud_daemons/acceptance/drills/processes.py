"""Workers killed and frozen, the supervisor killed and frozen."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Any

from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.clock import parse_iso
from fraud_daemons.supervision.audit import FILE_NAME
from fraud_daemons.supervision.client import SupervisorClient

BETWEEN_KILLS_SECONDS = (0.3, 0.9)


def _worker_kill(stage: Stage) -> None:
    """SIGKILL for one worker after the other, chosen by the dice."""
    ends = stage.clock.monotonic() + stage.seconds
    killed: dict[int, str] = {}
    while not killed or stage.clock.monotonic() < ends:
        worker, pid = stage.dice.choice(sorted(stage.workers().items()))
        stage.victims.add(worker)
        stage.signal(pid, signal.SIGKILL)
        killed[pid] = worker
        stage.rest(stage.dice.uniform(*BETWEEN_KILLS_SECONDS))
    stage.wait_for(lambda: len(_deaths(stage, killed)) == len(killed), seconds=10, what="every death in the audit")
    stage.fired["deaths_by_sigkill"] += len(_deaths(stage, killed))
    if delays := sorted(_respawn_milliseconds(stage, killed)):
        stage.figures["respawn_ms"] = {
            "p50": delays[len(delays) // 2],
            "max": delays[-1],
            "first_respawns": len(delays),
        }


def _audit(stage: Stage) -> list[dict[str, Any]]:
    import orjson

    return [orjson.loads(line) for line in stage.profile.path(FILE_NAME).read_bytes().splitlines() if line]


def _deaths(stage: Stage, killed: dict[int, str]) -> list[dict[str, Any]]:
    return [
        r for r in _audit(stage) if r.get("kind") == "exit" and r.get("pid") in killed and r.get("signal") == "SIGKILL"
    ]


def _respawn_milliseconds(stage: Stage, killed: dict[int, str]) -> list[float]:
    """From the death's line to the next start's, of deaths that were to be followed at once."""
    died: dict[str, datetime] = {}
    delays = []
    for record in _audit(stage):
        worker = str(record.get("worker"))
        if record.get("kind") == "exit" and record.get("pid") in killed:
            if not record.get("respawn_seconds"):
                died[worker] = parse_iso(str(record["at"]))
        elif record.get("kind") == "restart" and worker in died:
            delays.append(round((parse_iso(str(record["at"])) - died.pop(worker)).total_seconds() * 1000, 1))
    return delays


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
