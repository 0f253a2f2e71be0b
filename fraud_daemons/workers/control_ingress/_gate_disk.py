"""The disk guard: the gate takes nothing more in before the disk is full, so that what it took in can still be finished.

Below `disk.free_bytes_min` every admission is refused with 503 and Retry-After before anything is done, and the worker
says `waiting` with the figures. Everybody behind the gate goes on. It releases by itself once a tenth more than the
minimum is free: at the very edge it would open and shut with every batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus

from fraud_daemons.clock import Clock
from fraud_daemons.errors import TransientFault
from fraud_daemons.observability.disk import DiskUse, size_text
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.workers.control_ingress._gate_http import Refused

MEASURE_INTERVAL_SECONDS = 1.0
RETRY_AFTER_SECONDS = 5
RELEASE_PARTS = 11, 10  # free >= 11/10 of the minimum


class DiskGuard:
    """Measures at most once a second, in whoever asks first; safe to ask from several threads."""

    def __init__(self, measure: Callable[[], DiskUse], clock: Clock, *, free_bytes_min: int) -> None:
        self._measure = measure
        self._clock = clock
        self._free_bytes_min = free_bytes_min
        self._lock = threading.Lock()
        self._measured_at: float | None = None
        self._reason: str | None = None

    def reason(self) -> str | None:
        """Why nothing is taken in, None while there is room. A minimum of 0 guards nothing."""
        if not self._free_bytes_min:
            return None
        with self._lock:
            now = self._clock.monotonic()
            if self._measured_at is None or now - self._measured_at >= MEASURE_INTERVAL_SECONDS:
                self._reason = self._judge()
                self._measured_at = now
            return self._reason

    def check(self) -> None:
        """Raises Refused (503) while there is too little room."""
        reason = self.reason()
        if reason:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "disk_low",
                reason,
                fix="send the same request again after Retry-After; nothing of it was done. Whoever runs the platform frees space",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    def _judge(self) -> str | None:
        try:
            use = self._measure()
        except OSError as error:
            return f"disk: cannot be measured: {error.strerror}"
        wanted = self._free_bytes_min
        if self._reason:
            over, of = RELEASE_PARTS
            wanted = wanted * over // of
        if use.free_bytes >= wanted:
            return None
        return f"disk: {size_text(use.free_bytes)} free, {size_text(wanted)} wanted"


class DiskWatch(PlainActivity):
    """Makes the worker say `waiting` with the guard's reason, whether or not somebody sends anything."""

    name = "disk"

    def __init__(self, guard: DiskGuard) -> None:
        self._guard = guard

    def step(self) -> Outcome:
        reason = self._guard.reason()
        if reason:
            raise TransientFault(f"{reason}; the gate answers 503 until there is more", reason=reason)
        return Outcome(rest_seconds=MEASURE_INTERVAL_SECONDS)
