"""Who watches the watcher: is supervisord there, does it turn, and what is known of the platform when it says nothing.

Its own beat and the kernel tell whether it is frozen, without a question that nobody would answer; what the processes are
doing then comes from their locks, their heartbeats and the audit. It refuses to thaw or to end anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fraud_daemons.clock import Clock
from fraud_daemons.observability.heartbeat import read_heartbeat
from fraud_daemons.observability.process_identity import frozen, start_ticks
from fraud_daemons.status.picture import SupervisorPicture
from fraud_daemons.supervision.audit import newest_records
from fraud_daemons.supervision.client import (
    Snapshot,
    SupervisedProcess,
    SupervisorAbsent,
    SupervisorClient,
    SupervisorSilent,
)
from fraud_daemons.supervision.deployment import SUBSTRATE, Deployment
from fraud_daemons.supervision.survivors import is_ours

RUNNING, FROZEN, SILENT, GONE, DOWN = "running", "frozen", "silent", "gone", "stopped"
_NOBODY = "nobody starts a dead worker again and no command is obeyed"


def ask(deployment: Deployment, *, clock: Clock) -> tuple[Snapshot | None, SupervisorPicture]:
    """What runs, from supervisord or without it, and how supervisord is. No snapshot when nothing of the platform runs."""
    beat = read_heartbeat(deployment.supervisor_beat)
    alive = beat is not None and beat.process.alive()
    age = round(clock.monotonic() - beat.beat_monotonic, 3) if beat and alive else None
    if beat and alive and frozen(beat.pid):
        return without_supervisor(deployment, beat.pid), _frozen(beat.pid, age)
    try:
        snapshot = SupervisorClient(deployment.profile.socket_path).snapshot()
    except SupervisorSilent as error:
        pid = beat.pid if beat and alive else None
        left = without_supervisor(deployment, pid or 0)
        if pid and frozen(pid):  # just now
            return left, _frozen(pid, age)
        return left, SupervisorPicture(pid, SILENT, age, f"{error}; until then {_NOBODY}")
    except SupervisorAbsent:
        if beat and alive:
            reason = f"its socket is gone: {_NOBODY}; platform down ends it, then platform up"
            return without_supervisor(deployment, beat.pid), SupervisorPicture(beat.pid, SILENT, age, reason)
        if beat is None or beat.state == "stopping":
            return None, SupervisorPicture(None, DOWN, None)
        left = without_supervisor(deployment, 0)
        running = any(process.runs for process in left.processes.values())
        reason = f"pid {beat.pid} has gone without a word; its processes are told by the kernel; run: platform up"
        return left if running else None, SupervisorPicture(None, GONE, None, reason)
    return snapshot, SupervisorPicture(snapshot.pid, RUNNING, age)


def _frozen(pid: int, age: float | None) -> SupervisorPicture:
    reason = f"frozen by a signal: {_NOBODY}; thaw it with: kill -CONT {pid}"
    return SupervisorPicture(pid, FROZEN, age, reason)


def without_supervisor(deployment: Deployment, supervisor_pid: int) -> Snapshot:
    """Every process as far as its lock and the audit tell."""
    told = {record["worker"]: record for record in newest_records(deployment.run_dir) if record.get("pid") is not None}
    packs = {**dict.fromkeys(deployment.services, SUBSTRATE), **deployment.pack_of}
    processes = {name: _process(deployment, name, pack, last=told.get(name, {})) for name, pack in packs.items()}
    return Snapshot(pid=supervisor_pid, processes=processes)


def _process(deployment: Deployment, name: str, pack: str, *, last: Mapping[str, Any]) -> SupervisedProcess:
    pid = _holder(deployment.lock(name), deployment.run_dir)
    died = not pid and last.get("kind") in ("exit", "start", "restart", "held")
    return SupervisedProcess(
        name=name,
        pack=pack,
        state="running" if pid else "exited" if died else "stopped",
        pid=pid,
        uptime_seconds=_uptime(pid) if pid else None,
        restarts=last.get("restarts", 0),
        exit_code=last.get("exit_code") if died else None,
        last_death=None,
        respawn_seconds=None,
        spawn_error="dead, and nobody starts it again" if died else None,
        held_reason=last.get("reason") if died and last.get("kind") == "held" else None,
    )


def _holder(lock: Path, run_dir: Path) -> int | None:
    """The process that wrote its pid into its lock, if it is that one and still there."""
    try:
        pid = int(lock.read_text())
    except (OSError, ValueError):
        return None
    return pid if start_ticks(pid) is not None and is_ours(pid, run_dir) else None


def _uptime(pid: int) -> float | None:
    ticks = start_ticks(pid)
    if ticks is None:
        return None
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, since_boot - ticks / os.sysconf("SC_CLK_TCK"))
