"""One picture for everybody: written by the worker's loop, waited on by every open page.

Made once a look and encoded once, whoever watches: a second page costs the sending of the same bytes and no more. When
nobody looks nothing is read; whoever comes wakes the loop.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson

from fraud_daemons.clock import Clock

HISTORY_POINTS_MAX: Final = 600
"""Points of the charts: ten minutes at one a second."""
GAP_SECONDS: Final = 3.0
WATCHED_SECONDS: Final = 20.0
"""How long after a single question (a scrape, a snapshot) the picture is kept up."""


class Board:
    """The newest picture. Parts are put by the loop's thread; pages read from their own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parts: dict[str, Any] = {}
        self._history: deque[list[float | None]] = deque(maxlen=HISTORY_POINTS_MAX)
        self._changed = threading.Condition()
        self._sequence = 0
        self._drawn_at = float("-inf")
        self._encoded = b"{}"
        self._pages = 0
        self._asked_at = float("-inf")
        self._closed = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)

    # --- the loop's side
    @property
    def pages(self) -> int:
        """Pages that are open now."""
        return self._pages

    @property
    def asked_lately(self) -> bool:
        """Whether anybody looks: an open page, or a question within the last seconds."""
        return self._pages > 0 or self._clock.monotonic() - self._asked_at < WATCHED_SECONDS

    def wake_file(self) -> int:
        """Readable when somebody came to look."""
        return self._bell

    def slept(self) -> None:
        """The loop has come round: the wake-up has done its work."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def put(self, **parts: Any) -> None:
        """Replace parts of the picture; shown with the next `show`."""
        self._parts.update(parts)

    def show(self, point: list[float | None]) -> None:
        """The picture as it is now, with the newest point of the charts, to everybody."""
        with self._changed:
            self._sequence += 1
            now = self._clock.monotonic()
            if now - self._drawn_at > GAP_SECONDS and self._history:
                self._history.append([point[0], *[None] * (len(point) - 1)])  # nobody looked: no line across it
            self._drawn_at = now
            self._history.append(point)
            self._encoded = orjson.dumps({"sequence": self._sequence, "point": point, **self._parts})
            self._changed.notify_all()

    def close(self) -> None:
        """Send every page home."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- the pages' side
    @property
    def parts(self) -> Mapping[str, Any]:
        """The picture's parts as they were last put."""
        return dict(self._parts)

    def history(self) -> bytes:
        """Every point of the charts."""
        with self._changed:
            return orjson.dumps(list(self._history))

    @contextmanager
    def page(self, pages_max: int) -> Iterator[bool]:
        """Be counted as an open page; False when there are `pages_max` already."""
        with self._changed:
            admitted = self._pages < pages_max and not self._closed
            self._pages += admitted
        self.ask()
        try:
            yield admitted
        finally:
            with self._changed:
                self._pages -= admitted

    def fresh(self, *, age_seconds_max: float, wait_seconds: float) -> bytes:
        """The picture, drawn anew when it is older than `age_seconds_max`; the old one when nobody draws in time."""
        self.ask()
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._clock.monotonic() - self._drawn_at <= age_seconds_max, wait_seconds
            )
            return self._encoded

    def after(self, sequence: int, *, wait_seconds: float) -> tuple[int, bytes] | None:
        """The first picture newer than `sequence`; None when none came in time or the console closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._sequence > sequence, wait_seconds)
            if self._closed or self._sequence <= sequence:
                return None
            return self._sequence, self._encoded

    @property
    def closed(self) -> bool:
        return self._closed

    def ask(self) -> None:
        """Somebody looks: keep the picture up for a while."""
        self._asked_at = self._clock.monotonic()
        with suppress(OSError):  # a bell that rings already wakes as well
            os.eventfd_write(self._bell, 1)
