"""The watchdog: a worker whose heartbeat file no longer moves is not alive, whatever its process looks like.

It asks only whether the file moved since the last look, and adds up the time between looks on its own: no time that the
worker wrote is believed, so a stepped or faked clock changes nothing. One look counts two seconds at most: a supervisor or
machine that stood still itself gives everybody their grace. Moving is being renamed or touched: on a full disk the loop can
still do the latter. It refuses to judge a worker before its first beat by the same measure, and never asks a database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat

LOOK_COUNTS_SECONDS_MAX: Final = 2.0
FIRST_BEAT_SECONDS_MIN: Final = 120.0  # many interpreters starting at once on a slow machine
FIRST_BEAT_TIMES: Final = 4


@dataclass
class BeatSeen:
    """One worker's heartbeat file, read again only when it has moved."""

    path: Path
    beat: Heartbeat | None = None
    _mark: tuple[int, int] | None = None

    def moved(self) -> bool:
        """Whether it is another file, or was touched, since the last time this was asked."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        mark = (stat.st_ino, stat.st_mtime_ns)
        if mark == self._mark:
            return False
        self._mark, self.beat = mark, read_heartbeat(self.path)
        return True


@dataclass
class Watchdog:
    """Adds up how long one worker has been silent."""

    seen: BeatSeen
    patience_seconds: float
    silent_seconds: float = field(default=0.0, init=False)
    beaten: bool = field(default=False, init=False)
    """Whether this process has beaten at all."""

    def begin(self) -> None:
        """A new process: what the file says so far is of an earlier one."""
        self.seen.moved()
        self.silent_seconds, self.beaten = 0.0, False

    def look(self, elapsed_seconds: float) -> float | None:
        """How long it has been silent when that is too long, else None."""
        if self.seen.moved():
            self.silent_seconds, self.beaten = 0.0, True
            return None
        self.silent_seconds += min(elapsed_seconds, LOOK_COUNTS_SECONDS_MAX)
        return self.silent_seconds if self.silent_seconds >= self._patience() else None

    def own_beat(self, pid: int) -> Heartbeat | None:
        """The last beat of the process `pid`; None when it has not beaten yet."""
        beat = self.seen.beat
        return beat if self.beaten and beat is not None and beat.pid == pid else None

    def _patience(self) -> float:
        if self.beaten:
            return self.patience_seconds
        return max(FIRST_BEAT_SECONDS_MIN, FIRST_BEAT_TIMES * self.patience_seconds)
