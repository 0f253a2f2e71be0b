"""The heartbeat FILE: written by the work loop itself, read by status and the supervisor.

Atomically renamed, at most once a second or on change of state. It never depends on the thing whose outage it
reports, and a full disk must not kill the worker: a beat that cannot be written is counted, and the file of the one
before only touched, which needs no room and is enough for the watchdog.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fraud_daemons.clock import Clock, iso
from fraud_daemons.observability.process_identity import ProcessIdentity

BEAT_INTERVAL_SECONDS = 1.0

WorkerState = Literal["ready", "starting", "waiting", "failing", "held", "stopping"]


@dataclass(frozen=True)
class Heartbeat:
    """One beat of a worker's loop. Times in seconds; `*_monotonic` are comparable between processes of one boot."""

    worker: str
    pack: str
    pid: int
    start_ticks: int
    boot_id: str
    beat_monotonic: float
    beat_at: str
    state: WorkerState
    reason: str | None
    since_monotonic: float
    since: str
    lag_records: int | None = None
    steps: int = 0
    records: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    connector: dict[str, int] = field(default_factory=dict)
    platform_run_id: str | None = None
    version: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def process(self) -> ProcessIdentity:
        return ProcessIdentity(pid=self.pid, start_ticks=self.start_ticks, boot_id=self.boot_id)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """The last beat in `path`; None when there is none or it is not one of ours."""
    try:
        content = json.loads(path.read_text())
        return Heartbeat(**content)
    except (FileNotFoundError, ValueError, TypeError):
        return None


class HeartbeatFile:
    """Writes one worker's beats. Not thread-safe: only the work loop may beat."""

    def __init__(
        self, path: Path, *, worker: str, pack: str, process: ProcessIdentity, clock: Clock, version: str
    ) -> None:
        self._path = path
        self._temporary = path.with_suffix(".new")
        self._clock = clock
        self._fixed: dict[str, Any] = {"worker": worker, "pack": pack, "version": version, **asdict(process)}
        self._state: tuple[str, str | None] | None = None
        self._since = (clock.monotonic(), iso(clock.now()))
        self._written_monotonic = -BEAT_INTERVAL_SECONDS
        self._told_monotonic = -BEAT_INTERVAL_SECONDS
        self._last: Heartbeat | None = None
        self.failed_writes = 0

    def beat(self, state: WorkerState, reason: str | None = None, **progress: Any) -> bool:
        """Write a beat when the state changed or a second has passed; True when one was written."""
        now = self._clock.monotonic()
        changed = (state, _without_figures(reason)) != self._state
        # counted from the last beat of the loop's own: a repeat is old news and must not keep the new from being told
        if not changed and now - self._told_monotonic < BEAT_INTERVAL_SECONDS:
            return False
        self._told_monotonic = now
        if changed:
            self._state = (state, _without_figures(reason))
            self._since = (now, iso(self._clock.now()))
        beat = Heartbeat(
            **self._fixed,
            beat_monotonic=now,
            beat_at=iso(self._clock.now()),
            state=state,
            reason=reason,
            since_monotonic=self._since[0],
            since=self._since[1],
            **progress,
        )
        return self._write(beat)

    def repeat(self) -> bool:
        """The last beat once more, if a second has passed: the loop waits under a deadline and has nothing new to say."""
        now = self._clock.monotonic()
        if self._last is None or now - self._written_monotonic < BEAT_INTERVAL_SECONDS:
            return False
        return self._write(replace(self._last, beat_monotonic=now, beat_at=iso(self._clock.now())))

    def _write(self, beat: Heartbeat) -> bool:
        self._written_monotonic, self._last = beat.beat_monotonic, beat
        try:
            descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                # not json.dump: it leaves a cycle of closures, 5 KB a beat, for the collector
                file.write(json.dumps(asdict(beat)))
            self._temporary.replace(self._path)
        except OSError:  # a full disk must not kill the worker; the age of the last beat tells the story
            self.failed_writes += 1
            self._touch()
            return False
        return True

    def _touch(self) -> None:
        try:
            os.utime(self._path)
        except OSError:  # read only, or never written: nothing more can be said
            pass


def _without_figures(reason: str | None) -> str | None:
    """A reason without its digits, so that "retrying in 2 s" and "retrying in 1 s" are one state."""
    return None if reason is None else "".join(c for c in reason if not c.isdigit())
