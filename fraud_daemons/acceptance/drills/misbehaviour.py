"""A worker that misbehaves: its loop hangs, it is silent too long, it ignores SIGTERM, it has grandchildren, it leaks, it shouts."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.stage import Check, Stage, family_of, state_of
from fraud_daemons.bootstrap import drill_orders
from fraud_daemons.supervision.audit import FILE_NAME

CRASHES_MAX = 20
ORPHANS_SECONDS_MAX = 3.0
POLL_SECONDS = 0.02
BEYOND_PATIENCE_SECONDS = 30.0
"""How long after the watchdog's patience its work must be done."""


def _order(stage: Stage, word: str, worker: str, pid: int) -> None:
    path = drill_orders.order_file(stage.profile, worker)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(word)
    stage.signal(pid, drill_orders.SIGNAL)
    stage.wait_for(lambda: not path.exists(), seconds=15, what=f"{worker} to take the order")
    stage.fired[f"{word}_taken"] += 1
    stage.faults += 1


def _somebody(stage: Stage) -> tuple[str, int]:
    worker, pid = stage.dice.choice(sorted(stage.workers().items()))
    stage.figures["worker"] = worker
    return worker, pid


def _wedge(stage: Stage) -> None:
    """The loop hangs and the process lives: only the watchdog can tell."""
    worker, pid = _somebody(stage)
    stage.victims.add(worker)
    _order(stage, "wedge", worker, pid)
    _await_watchdog(stage, pid)


def _silent(stage: Stage) -> None:
    """SIGSTOP beyond the watchdog's patience: replaced, and the frozen copy never commits again."""
    worker, pid = _somebody(stage)
    stage.victims.add(worker)
    with stage.frozen([pid]):
        _await_watchdog(stage, pid)
        stage.wait_for(lambda: stage.workers().get(worker) not in (None, pid), seconds=30, what=f"another {worker}")
    stage.fired["replaced"] += 1


def _await_watchdog(stage: Stage, pid: int) -> None:
    began = stage.clock.monotonic()
    patience = stage.profile.get("loop.watchdog_seconds") + BEYOND_PATIENCE_SECONDS
    stage.wait_for(lambda: state_of(pid) is None, seconds=patience, what="the watchdog to end it")
    stage.figures["ended_after_seconds"] = round(stage.clock.monotonic() - began, 1)
    stage.wait_for(lambda: _exits(stage, pid, cause="watchdog"), seconds=10, what="the watchdog's line in the audit")
    stage.fired["ended_by_watchdog"] += 1


def _deaf(stage: Stage) -> None:
    """SIGTERM is ignored: an operator's restart ends it at its drain deadline."""
    worker, pid = _somebody(stage)
    _order(stage, "deaf", worker, pid)
    began = stage.clock.monotonic()
    stage.stop(worker)
    stage.figures["stopped_after_seconds"] = round(stage.clock.monotonic() - began, 1)
    stage.fired["ended_by_sigkill"] += len(_exits(stage, pid, kind="stop", ended_by="SIGKILL"))
    stage.start(worker)


def _grandchildren(stage: Stage) -> None:
    """A worker with children of its own is killed, again and again: none of them outlives it."""
    orphans: list[int] = []
    crashes = 0
    ends = stage.clock.monotonic() + stage.seconds
    names = sorted(stage.workers())
    stage.dice.shuffle(names)
    while crashes < CRASHES_MAX and (not crashes or stage.clock.monotonic() < ends):
        orphans += _crash_with_children(stage, names[crashes % len(names)])
        crashes += 1
    stage.fired["crashes"] += crashes
    stage.checks.append(Check("orphans", 0, len(orphans), not orphans))


def _crash_with_children(stage: Stage, worker: str) -> list[int]:
    """One crash; the grandchildren that outlive it."""
    stage.wait_for(lambda: _ready(stage, worker), seconds=60, what=f"{worker} to be ready")
    pid = stage.workers()[worker]
    stage.victims.add(worker)
    _order(stage, "fork", worker, pid)
    stage.wait_for(lambda: len(family_of(pid)) > drill_orders.GRANDCHILDREN, seconds=10, what="its grandchildren")
    children = family_of(pid)[1:]
    stage.fired["grandchildren_seen"] += len(children)
    stage.signal(pid, signal.SIGKILL)
    stage.await_gone(pid)
    ends = stage.clock.monotonic() + ORPHANS_SECONDS_MAX
    while (left := [child for child in children if _is_sleeping_child(child)]) and stage.clock.monotonic() < ends:
        stage.rest(POLL_SECONDS)  # a dead worker's group is ended when the supervisor reaps it
    return left


def _is_sleeping_child(pid: int) -> bool:
    try:
        return b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes() and state_of(pid) != "Z"
    except OSError:
        return False


def _ready(stage: Stage, worker: str) -> bool:
    return any(w.worker == worker and w.ready for w in stage.picture().workers)


def _leak(stage: Stage) -> None:
    """64 MiB are held and never given back, until an operator restarts the worker."""
    worker, pid = _somebody(stage)
    before = _resident(stage, worker)
    _order(stage, "leak", worker, pid)
    stage.rest()
    leaked = _resident(stage, worker)
    stage.fired["megabytes_leaked"] += (leaked - before) // 1_000_000
    stage.stop(worker)
    stage.start(worker)
    after = _resident(stage, worker)
    stage.checks.append(Check("given_back", f"< {leaked}", after, after < leaked))


def _resident(stage: Stage, worker: str) -> int:
    return next((w.rss_bytes or 0 for w in stage.picture().workers if w.worker == worker), 0)


def _shout(stage: Stage) -> None:
    """10 MB/s to stdout: the crash log stays within its bound and the supervisor goes on watching."""
    worker, pid = _somebody(stage)
    _order(stage, "shout", worker, pid)
    stage.rest()
    files = list(stage.profile.path("logs").glob(f"{worker}.crash.log*"))
    size = sum(path.stat().st_size for path in files)
    stage.fired["crash_log_bytes"] += size
    bound = 3 * 1_048_576 + 262_144  # two files, and what one write adds before it is rotated
    stage.checks.append(Check("crash_log_bounded", f"<= {bound}", size, size <= bound))


def _exits(
    stage: Stage, pid: int, *, kind: str = "exit", cause: str | None = None, ended_by: str | None = None
) -> list[Any]:
    import orjson

    records = [orjson.loads(line) for line in stage.profile.path(FILE_NAME).read_bytes().splitlines() if line]
    return [
        r for r in records
        if r.get("pid") == pid and r.get("kind") == kind and cause in (None, r.get("cause")) and ended_by in (None, r.get("signal"))
    ]  # fmt: skip


DRILLS = (
    Drill("worker-wedge", "a worker's loop hangs, its process lives; the watchdog ends it", _wedge,
          ("wedge_taken", "ended_by_watchdog"), seconds=35.0),
    Drill("worker-silent", "a worker is frozen beyond the watchdog's patience and replaced", _silent,
          ("seen_stopped", "ended_by_watchdog", "replaced"), seconds=35.0),
    Drill("worker-deaf", "a worker ignores SIGTERM while an operator stops it", _deaf, ("deaf_taken", "ended_by_sigkill"),
          seconds=12.0),
    Drill("worker-grandchildren", "workers with children of their own are killed", _grandchildren,
          ("fork_taken", "grandchildren_seen", "crashes"), seconds=20.0),
    Drill("worker-leak", "a worker leaks 64 MiB", _leak, ("leak_taken", "megabytes_leaked")),
    Drill("worker-shout", "a worker writes 10 MB/s to stdout", _shout, ("shout_taken", "crash_log_bytes")),
)  # fmt: skip
