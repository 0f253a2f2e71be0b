"""The heartbeat file: what the loop has to say reaches it once a second, whatever waits repeat meanwhile."""

from __future__ import annotations

import gc
from pathlib import Path

from fraud_daemons.clock import ManualClock
from fraud_daemons.observability.heartbeat import BEAT_INTERVAL_SECONDS, HeartbeatFile, read_heartbeat
from fraud_daemons.observability.process_identity import ProcessIdentity


def test_repeats_do_not_starve_the_news(tmp_path: Path) -> None:
    """A loop whose every step begins with a wait repeats its last beat first; its new figures are written all the same."""
    clock, path = ManualClock(), tmp_path / "w.json"
    beat = HeartbeatFile(path, worker="w", pack="p", process=ProcessIdentity(1, 2, "boot"), clock=clock, version="0")
    beat.beat("ready", steps=1)
    for steps in range(2, 12):
        clock.advance(BEAT_INTERVAL_SECONDS)
        beat.repeat()  # the step waits for the database
        beat.beat("ready", steps=steps)
        found = read_heartbeat(path)
        assert found is not None
        assert found.steps == steps


def test_beats_leave_nothing_for_the_collector(tmp_path: Path) -> None:
    """A worker's collector runs so seldom that what a beat leaves behind would be megabytes by then."""
    clock = ManualClock()
    process = ProcessIdentity(1, 2, "boot")
    beat = HeartbeatFile(tmp_path / "w.json", worker="w", pack="p", process=process, clock=clock, version="0")
    beat.beat("ready", steps=0)
    gc.collect()
    gc.disable()
    try:
        for steps in range(1, 20):
            clock.advance(BEAT_INTERVAL_SECONDS)
            assert beat.beat("ready", steps=steps)
        assert gc.collect() == 0
    finally:
        gc.enable()
