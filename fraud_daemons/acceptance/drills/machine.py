"""The machine beneath: a full disk for the logs, a clock that is stepped by an hour."""

from __future__ import annotations

import os
from pathlib import Path

from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.grounds import (
    faked_clock,
    lacking_for_faked_clock,
    lacking_for_small_logs,
    small_logs,
)
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.acceptance.drills.witness import beats_of
from fraud_daemons.clock import parse_iso
from fraud_daemons.errors import CommandError

STEP_SECONDS = 3600
SEEN_SECONDS_MIN = 3000.0
FILLER = "filler"
CHUNK_BYTES = 65_536
CHUNKS_MAX = 4096


def _tool(stage: Stage) -> Path:
    if not isinstance(stage.tool, Path):
        raise CommandError("drill: this drill needs a platform of its own")
    return stage.tool


def _logs_full(stage: Stage) -> None:
    """Not a byte is left for the logs: lines are lost, no worker is."""
    folder = _tool(stage)
    filler = folder / FILLER
    before = {beat.worker: beat.steps for beat in beats_of(stage.profile)}
    ends = stage.clock.monotonic() + stage.seconds
    try:
        stage.faults += 1
        while stage.clock.monotonic() < ends:
            _fill(filler)
            stage.fired["seen_full"] += os.statvfs(folder).f_bavail == 0
            stage.rest(0.2)
    finally:
        filler.unlink(missing_ok=True)
    moved = [beat.worker for beat in beats_of(stage.profile) if beat.steps > before.get(beat.worker, 0)]
    stage.fired["workers_went_on"] += len(moved)


def _fill(filler: Path) -> None:
    try:
        with filler.open("ab", buffering=0) as file:
            for _ in range(CHUNKS_MAX):
                file.write(b"\0" * CHUNK_BYTES)
    except OSError:  # full: that is the aim
        pass


def _clock_stepped(stage: Stage) -> None:
    """An hour ahead, and back again: durations come from the monotonic clock, order from positions."""
    ahead = _tool(stage)
    stage.faults += 1
    try:
        ahead.write_text(f"+{STEP_SECONDS}")
        stage.wait_for(lambda: _ahead(stage), seconds=30, what="workers to believe the stepped clock")
        stage.rest()
        stage.fired["workers_an_hour_ahead"] += _ahead(stage)
    finally:
        ahead.write_text("+0")
    stage.wait_for(lambda: not _ahead(stage), seconds=30, what="workers to be back")


def _ahead(stage: Stage) -> int:
    now = stage.clock.now()
    return sum((parse_iso(b.beat_at) - now).total_seconds() > SEEN_SECONDS_MIN for b in beats_of(stage.profile))


DRILLS = (
    Drill("logs-full", "the disk of the logs is full", _logs_full, ("seen_full", "workers_went_on"),
          needs=lambda _: lacking_for_small_logs(), ground=small_logs),
    Drill("clock-step", "the clock of workers and supervisord is stepped by an hour, and back", _clock_stepped,
          ("workers_an_hour_ahead",), needs=lambda _: lacking_for_faked_clock(), ground=faked_clock),
)  # fmt: skip
