"""Back-pressure: when evidence is too far behind, or too many requests queue, the gate says 429 before it does anything.

Too little room on the disk is asked here too, first, and is a 503: see `_gate_disk`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from fraud_daemons.clock import Clock
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import admissions
from fraud_daemons.workers.control_ingress._gate_disk import DiskGuard
from fraud_daemons.workers.control_ingress._gate_http import busy

UNSEALED_RECORDS_MAX = 500_000
"""Admitted events and refusals whose evidence object is not written yet. At 8,000 events/s this is a minute without an
object store; at 1,000 records an object the sealers then catch up in seconds."""

QUEUED_REQUESTS_MAX = 64
"""Requests that wait for a thread: 64 full batches are some 10 s of work, longer than a client's deadline."""

MEASURE_INTERVAL_SECONDS = 1.0
RETRY_AFTER_SECONDS = 2


class Pressure:
    """Measures at most once a second, in whichever request comes first; between two measures the last one counts."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        disk: DiskGuard,
        *,
        sealers: Sequence[tuple[str, Sequence[str]]],
        queued: Callable[[], int],
        unsealed_records_max: int = UNSEALED_RECORDS_MAX,
    ) -> None:
        self._database = database
        self._clock = clock
        self._disk = disk
        self._sealers = sealers
        self._queued = queued
        self._unsealed_max = unsealed_records_max
        self._lock = threading.Lock()
        self._measured_at: float | None = None
        self._unsealed = 0

    def check(self) -> None:
        """Raises Refused (429 under pressure, 503 for want of disk), TransientFault when the database is away."""
        self._disk.check()
        queued = self._queued()
        if queued > QUEUED_REQUESTS_MAX:
            raise busy("queue", f"{queued} requests wait for a thread", retry_after_seconds=1)
        self._measure()
        if self._unsealed > self._unsealed_max:
            raise busy(
                "evidence_behind",
                f"{self._unsealed} records wait for their evidence object, {self._unsealed_max} may",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    def _measure(self) -> None:
        with self._lock:
            now = self._clock.monotonic()
            if self._measured_at is None or now - self._measured_at >= MEASURE_INTERVAL_SECONDS:
                with self._database.scope() as connection:
                    self._unsealed = admissions.unsealed_records(connection, sealers=self._sealers)
                self._measured_at = now
