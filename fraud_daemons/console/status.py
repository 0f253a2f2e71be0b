"""Looks at processes, beats and the audit and draws the picture anew. Asks no database: what reports an outage must not
depend on the thing that is away.

While somebody looks, once a second; for the hook alone every other second; when nobody cares, not at all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fraud_daemons.clock import Clock, iso
from fraud_daemons.console.board import Board
from fraud_daemons.console.timeline import Timeline
from fraud_daemons.errors import TransientFault
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat
from fraud_daemons.runtime.activity import Outcome, PlainActivity

LOOK_SECONDS: Final = 1.0
ALERT_LOOK_SECONDS: Final = 2.0
REST_SECONDS: Final = 1.0
CHANGES_KEPT_MAX: Final = 100
RATE_WINDOW_SECONDS: Final = 2.0
"""Rates are means over this long: shorter, and a batch looks like a burst; longer, and a stop shows late."""

Look = Callable[[], dict[str, Any]]
Tell = Callable[[Mapping[str, Any]], None]


class StatusWatch(PlainActivity):
    """`look` is what `platform status --json` says; `tell` hears every picture of it (the hook), or is None."""

    name = "status"

    def __init__(self, board: Board, look: Look, *, run_dir: Path, clock: Clock, tell: Tell | None) -> None:
        self.board = board
        self._look = look
        self._beats = run_dir / "beats"
        self._timeline = Timeline(run_dir / "events.ndjson")
        self._clock = clock
        self._tell = tell
        self._before: dict[str, tuple[str, Counter[str], int]] = {}
        """Worker -> its last status, its faults by kind, and the pid that counted them."""
        self._changes: deque[dict[str, Any]] = deque(maxlen=CHANGES_KEPT_MAX)

    def step(self) -> Outcome:
        self.board.slept()
        watched = self.board.asked_lately
        if not watched and self._tell is None:
            return Outcome(rest_seconds=REST_SECONDS)
        try:
            status = self._look()
        except TransientFault as fault:
            self.board.put(status_problem=fault.reason)
            self._show()
            raise
        if self._tell is not None:
            self._tell(status)
        if not watched:
            return Outcome(rest_seconds=ALERT_LOOK_SECONDS)
        beats = self._counters(status)
        self._note_changes(status, beats)
        timeline = sorted([*self._timeline.newest(), *self._changes], key=lambda record: str(record["at"]))
        self.board.put(status=status, status_problem=None, beats=beats, timeline=timeline)
        self._show()
        return Outcome(rest_seconds=LOOK_SECONDS)

    def wake_files(self) -> list[int]:
        return [self.board.wake_file()]

    def close(self) -> None:
        self.board.close()

    def _show(self) -> None:
        now = iso(self._clock.now())
        flow = self.board.parts.get("flow") or {}
        rates = flow.get("rates", {})
        waiting = sum(records for _, _, records in flow["lags"]) if flow else None
        self.board.put(at=now)
        self.board.show(
            [round(self._clock.now().timestamp(), 1), rates.get("traffic"), rates.get("decisions"), waiting]
        )

    def _note_changes(self, status: Mapping[str, Any], beats: Mapping[str, Mapping[str, Any]]) -> None:
        """What the audit does not have: a worker that lives and waits, and faults that its loop contained."""
        at = iso(self._clock.now())
        for pack in status["packs"]:
            for worker in pack["workers"]:
                name, beat = worker["worker"], beats.get(worker["worker"], {})
                faults, pid = Counter(beat.get("faults", {})), beat.get("pid", 0)
                before, known, counted_by = self._before.get(name, (worker["status"], faults, pid))
                self._before[name] = (worker["status"], faults, pid)
                record = {"at": at, "worker": name, "pack": pack["pack"], "pid": worker["pid"]}
                if worker["status"] != before:
                    self._changes.append(
                        {**record, "kind": "status", "cause": worker["status"], "reason": worker["reason"]}
                    )
                for kind, count in (faults - known if counted_by == pid else faults).items():
                    self._changes.append({**record, "kind": "fault", "cause": kind, "count": count})

    def _counters(self, status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Every worker's own counters, since its process began."""
        names = [worker["worker"] for pack in status["packs"] for worker in pack["workers"]]
        beats = {name: read_heartbeat(self._beats / f"{name}.json") for name in names}
        return {name: _counters(beat) for name, beat in beats.items() if beat is not None}


def _counters(beat: Heartbeat) -> dict[str, Any]:
    return {
        "pid": beat.pid,
        "steps": beat.steps,
        "records": beat.records,
        "faults": beat.faults,
        "dead_letters": beat.dead_letters,
        "connector": beat.connector,
        "version": beat.version,
        **beat.detail,
    }
