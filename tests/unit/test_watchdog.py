"""The watchdog's arithmetic: only its own looks count, and whether the file moved between them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fraud_daemons.clock import ManualClock
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.supervision.restart_policy import DeathLimit, RestartPolicy
from fraud_daemons.supervision.watchdog import FIRST_BEAT_SECONDS_MIN, BeatSeen, Watchdog

LOOK = 0.5


@pytest.fixture
def beat(tmp_path: Path) -> HeartbeatFile:
    me = identity_of(os.getpid())
    assert me
    path = tmp_path / "w.json"
    return HeartbeatFile(path, worker="w", pack="p", process=me, clock=ManualClock(), version="test")


@pytest.fixture
def watchdog(tmp_path: Path, beat: HeartbeatFile) -> Watchdog:
    """One whose process has beaten once."""
    made = Watchdog(BeatSeen(tmp_path / "w.json"), patience_seconds=30.0)
    made.begin()
    beat.beat("ready")
    assert made.look(LOOK) is None
    return made


def _looks_until_ended(watchdog: Watchdog, elapsed: float = LOOK) -> int:
    return next(n for n in range(1, 100_000) if watchdog.look(elapsed) is not None)


def test_silence_is_the_sum_of_its_own_looks(watchdog: Watchdog) -> None:
    """Thirty seconds of looks twice a second."""
    assert _looks_until_ended(watchdog) == 60


def test_one_look_counts_two_seconds_however_long_ago_the_last_one_was(watchdog: Watchdog) -> None:
    """A supervisor that was frozen for an hour, a suspended machine, a monotonic clock that jumped: nobody is ended by it."""
    assert _looks_until_ended(watchdog, elapsed=3600.0) == 15


@pytest.mark.parametrize("step_seconds", [-3600, 3600])
def test_a_file_with_another_time_has_moved_whichever_way_the_clock_was_stepped(
    watchdog: Watchdog, tmp_path: Path, step_seconds: int
) -> None:
    """Moved is different, not later; what time a beat claims to be of is not asked."""
    for _ in range(59):
        assert watchdog.look(LOOK) is None
    stat = (tmp_path / "w.json").stat()
    os.utime(tmp_path / "w.json", (stat.st_atime + step_seconds, stat.st_mtime + step_seconds))
    assert watchdog.look(LOOK) is None
    assert _looks_until_ended(watchdog) == 60


def test_an_earlier_processs_file_is_no_first_beat(watchdog: Watchdog) -> None:
    """After a respawn the old file does not count, the first beat has its own patience, and then the usual one begins."""
    watchdog.begin()
    assert watchdog.own_beat(os.getpid()) is None
    assert _looks_until_ended(watchdog) == FIRST_BEAT_SECONDS_MIN / LOOK


def test_deaths_fall_out_of_the_window() -> None:
    """As many deaths as are borne, spread over more than the window, never hold; one more within it does. The substrate has
    no limit."""
    policy = RestartPolicy(limit=DeathLimit(deaths_max=3, window_seconds=60.0))
    assert [policy.count(20.0 * n) for n in range(20)] == [None] * 20
    assert policy.count(381.0) == "4 deaths in 41 s"
    assert [RestartPolicy(limit=None).count(0.0) for _ in range(100)] == [None] * 100
