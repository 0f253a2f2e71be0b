"""Does anything of the incident come back: fault kinds, errno and SQLSTATE in this run's logs, and the incident's own words.

Read are each worker's log and heartbeat counters, the crash logs, the supervisor's log and audit, and PostgreSQL's own JSON
log; where that cannot be read, the servers' activity views, and the finding says so. A log with a gap, or a worker whose log
holds nothing of its process, is a FAIL: silence proves nothing. A fault that was contained is one, too. That a process died
is the liveness gates' finding; here it counts only by what it said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fraud_daemons.acceptance.gates.log_hits import Hit, hits_of_postgres, hits_of_text, hits_of_worker
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding, judged
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.observability.log_window import Mark, Window, written_since

EXPECTED = "no fault, errno or SQLSTATE of the incident, no fault contained, none of its words; every log whole, no worker silent"
TAIL_BYTES_MAX = 1024 * 1024
POSTGRES_LOGS = "postgres_logs/"


def measure(scene: Scene) -> Finding:
    """Read everything written since the run began."""
    seconds = scene.clock.monotonic() - scene.begun_monotonic
    fresh = {name: Mark(now.path, 0, 0) for name, now in scene.mark_logs().items() if name not in scene.logs}
    windows = {name: written_since(where) for name, where in {**scene.logs, **fresh}.items()}
    silent = [worker for worker in scene.workers if _silent(scene, worker, windows)]
    views = None
    if not _every_server_tells_by_its_log(scene, windows):
        views = _activity_views(scene)
        windows = {name: window for name, window in windows.items() if not _unreadable(name, window)}
    now = scene.read_beats()
    return judge(windows, silent=silent, contained=contained(scene.beats, now), views=views, seconds=seconds)


def judge(
    windows: Mapping[str, Window],
    *,
    silent: list[str],
    contained: Mapping[str, Mapping[str, int]],
    views: Mapping[str, Any] | None,
    seconds: float,
) -> Finding:
    """`views` = what the servers' counters say where their log cannot be read, else None."""
    wrong = [window.gap for window in windows.values() if window.gap]
    wrong += [f"{worker} is silent: its log holds nothing of its process" for worker in silent]
    hits = [hit for name, window in windows.items() for hit in _hits(name, window)]
    wrong += Hit.summed(hits)
    wrong += [
        f"{worker} contained {', '.join(f'{count} {kind}' for kind, count in kinds.items())} (by its heartbeat)"
        for worker, kinds in contained.items()
    ]
    if views is not None and (views["sessions_ended_badly"] or views["deadlocks"]):
        wrong.append(
            f"the servers count {views['sessions_ended_badly']} sessions that ended badly, {views['deadlocks']} deadlocks"
        )
    lines = sum(len(window.lines) for window in windows.values())
    source = (
        "PostgreSQL by its own log" if views is None else f"PostgreSQL by its activity views ({views['samples']} looks)"
    )
    return judged(
        expected=EXPECTED,
        good=f"none in {lines} lines of {len(windows)} files over {seconds:.0f} s; {source}",
        wrong=wrong,
        covered={
            "seconds": round(seconds, 1), "lines": lines, "postgres": source, "activity_views": views,
            "files": {name: len(window.lines) for name, window in sorted(windows.items())},
        },
        measured=not any(window.gap for window in windows.values()) and not silent,
    )  # fmt: skip


def contained(before: Mapping[str, Heartbeat | None], now: Mapping[str, Heartbeat | None]) -> dict[str, dict[str, int]]:
    """Faults that each worker's loop counted meanwhile, by kind; a log line may speak for several."""
    found = {}
    for worker, beat in now.items():
        earlier = before.get(worker)
        same = beat is not None and earlier is not None and beat.process == earlier.process
        base = earlier.faults if same and earlier is not None else {}
        grown = {kind: count - base.get(kind, 0) for kind, count in (beat.faults if beat else {}).items()}
        if any(grown.values()):
            found[worker] = {kind: count for kind, count in grown.items() if count}
    return found


def _hits(name: str, window: Window) -> list[Hit]:
    if name.startswith(POSTGRES_LOGS):
        return hits_of_postgres(name, window.lines)
    if name.startswith("logs/") and name.endswith(".log") and name.count(".") == 1 and "supervisord" not in name:
        return hits_of_worker(name, window.lines)
    return hits_of_text(name, window.lines)


def _silent(scene: Scene, worker: str, windows: Mapping[str, Window]) -> bool:
    """Whether the worker's log holds no line since its process began: then it may have said anything, elsewhere."""
    window = windows.get(f"logs/{worker}.log")
    if window is None or window.gap:
        return False  # told as a gap
    if window.lines:
        return False
    beat = scene.read_beats().get(worker)
    if beat is None:
        return True
    age = scene.clock.monotonic() - beat.process.start_ticks / os.sysconf("SC_CLK_TCK")
    since = (scene.clock.now() - timedelta(seconds=age + 1)).strftime("%Y-%m-%dT%H:%M:%S")
    path = scene.profile.path("logs", f"{worker}.log")
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES_MAX))
            text = file.read().decode(errors="replace")
    except OSError:
        return True
    return not any(stamp >= since for line in text.splitlines() if (stamp := _stamp(line)))


def _stamp(line: str) -> str:
    """The time a JSON line carries, in a form that sorts; "" without one."""
    _, found, rest = line.partition('"at":"')
    return rest[:19] if found else ""


def _every_server_tells_by_its_log(scene: Scene, windows: Mapping[str, Window]) -> bool:
    """Only the embedded server's log is ours to read."""
    alone = scene.profile.embedded_postgres and len(scene.servers["begin"]) == 1
    logs = [(name, window) for name, window in windows.items() if name.startswith(POSTGRES_LOGS)]
    return alone and bool(logs) and not any(_unreadable(name, window) for name, window in logs)


def _unreadable(name: str, window: Window) -> bool:
    return name.startswith(POSTGRES_LOGS) and "cannot be read" in (window.gap or "")


def _activity_views(scene: Scene) -> dict[str, Any]:
    """What the servers themselves counted since the run began, and how often their sessions were looked at."""
    begin, now = scene.servers["begin"], scene.look_at_servers()
    return {
        "sessions_ended_badly": sum(now[name].ended_badly - begin[name].ended_badly for name in begin),
        "deadlocks": sum(now[name].deadlocks - begin[name].deadlocks for name in begin),
        "samples": scene.samples,
    }
