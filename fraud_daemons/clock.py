"""Time, injected: the real clock and, beside it, a manual one for tests.

Durations come from `monotonic`, stamps from `now`; nothing else in the package may ask the machine for the time
(a tidy test holds that), so a test can step an hour and a stepped wall clock cannot bend a timeout.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What a worker may know of time."""

    def now(self) -> datetime:
        """Wall time, timezone-aware UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back; shared by all processes of one boot."""

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        """Sleep up to `seconds` or until `wake` is set; True when woken."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        return wake.wait(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when told to; `wait` moves it at once and never blocks."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        self.advance(seconds)
        return wake.is_set()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


def iso(moment: datetime) -> str:
    """UTC ISO 8601 with microseconds and `Z`: the one text form of a time, which also sorts as time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_iso(text: str) -> datetime:
    """Back from `iso`; accepts any ISO 8601 time with an offset. Raises ValueError without one."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it with an offset or Z")
    return moment.astimezone(UTC)
