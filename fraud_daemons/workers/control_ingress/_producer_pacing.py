"""How much may be sent now: so many transactions a second, event time sped up, or as fast as the gate takes them.

A schedule begins anew after any fault: an outage is not followed by a flood that makes up for it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fraud_daemons.clock import iso, parse_iso

WINDOW_SECONDS = 0.05
"""A paced stream sends what this window holds at once: small enough not to be seen, large enough to batch."""

REST_SECONDS_MAX = 1.0
REST_SECONDS_MIN = 0.001


@dataclass(frozen=True)
class Turn:
    """How many of the offered transactions go now, and how long to rest when none do."""

    transactions: int
    rest_seconds: float = 0.0


@dataclass
class Pacing:
    """One stream's schedule; `rate` in transactions a second, `speedup` in event seconds a second, neither = flat out."""

    rate: float | None = None
    speedup: float | None = None
    _began: float | None = None
    _first_index: int = 0
    _first_time: str = ""

    def restart(self) -> None:
        """Forget the schedule; the next turn begins a new one."""
        self._began = None

    def turn(self, *, now: float, index: int, times: Sequence[str]) -> Turn:
        """What goes now of the rows from `index` on, whose times are `times` (at least one)."""
        if self._began is None:
            self._began, self._first_index, self._first_time = now, index, times[0]
        elapsed = now - self._began
        if self.rate:
            return self._at_rate(self.rate, elapsed, index=index, offered=len(times))
        if self.speedup:
            return self._sped_up(self.speedup, elapsed, times)
        return Turn(len(times))

    def _at_rate(self, rate: float, elapsed: float, *, index: int, offered: int) -> Turn:
        window = max(1, int(rate * WINDOW_SECONDS))
        sent = index - self._first_index
        due = int(elapsed * rate) + window - sent
        if due >= window:
            return Turn(min(offered, due))
        return Turn(0, min(REST_SECONDS_MAX, max(REST_SECONDS_MIN, sent / rate - elapsed)))

    def _sped_up(self, speedup: float, elapsed: float, times: Sequence[str]) -> Turn:
        first = parse_iso(self._first_time)
        until = iso(first + timedelta(seconds=min((elapsed + WINDOW_SECONDS) * speedup, 3e9)))
        due = bisect.bisect_right(times, until)
        if due:
            return Turn(due)
        wait = (parse_iso(times[0]) - first).total_seconds() / speedup - elapsed
        return Turn(0, min(REST_SECONDS_MAX, max(REST_SECONDS_MIN, wait)))
