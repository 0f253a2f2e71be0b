"""Back-pressure: the gate says 429 before it does anything when too much already waits - for a thread, for its evidence
object, for the context store or for a decision.

Too little room on the disk is asked here too, first, and is a 503: see `_gate_disk`. A database that is away is told by
whoever reads it. Nothing is refused because of a clock: every lag is counted in records.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fraud_daemons.clock import Clock
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import admissions
from fraud_daemons.workers.control_ingress._gate_disk import DiskGuard
from fraud_daemons.workers.control_ingress._gate_downstream import Downstream, Lag
from fraud_daemons.workers.control_ingress._gate_http import Refused, busy

QUEUED_REQUESTS_MAX = 64
"""Requests that wait for a thread: 64 full batches are some 10 s of work, longer than a client's deadline."""

MEASURE_INTERVAL_SECONDS = 1.0
RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True)
class Limits:
    """How much may wait before the gate says 429; 0 = without end."""

    unsealed_records: int
    unbound_records: int
    undecided_flows: int


class Pressure:
    """Measures at most once a second, in whichever request comes first; between two measures the last one counts."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        disk: DiskGuard,
        downstream: Downstream,
        sealers: Sequence[tuple[str, Sequence[str]]],
        queued: Callable[[], int],
        limits: Limits,
    ) -> None:
        self._database = database
        self._clock = clock
        self._disk = disk
        self._downstream = downstream
        self._sealers = sealers
        self._queued = queued
        self._limits = limits
        self._lock = threading.Lock()
        self._measured_at: float | None = None
        self._unsealed = 0
        self._lag = Lag()

    def check(self) -> None:
        """Raises Refused (429 under pressure, 503 for want of disk), TransientFault when the database is away."""
        self._disk.check()
        for refused in self._before_the_database():
            raise refused
        self._measure()
        for refused in self._by_measure():
            raise refused

    def looks(self) -> Iterator[tuple[str, Refused | None]]:
        """Every reason to refuse by name, with the refusal or None. Raises as `check` does when it comes to the database."""
        try:
            self._disk.check()
            yield "disk", None
        except Refused as refused:
            yield "disk", refused
        yield "queue", next(self._before_the_database(), None)
        self._measure()
        found = {refused.error: refused for refused in self._by_measure()}
        for name in ("evidence_behind", "context_behind", "decisions_behind"):
            yield name, found.get(name)

    def _before_the_database(self) -> Iterator[Refused]:
        queued = self._queued()
        if queued > QUEUED_REQUESTS_MAX:
            yield busy("queue", f"{queued} requests wait for a thread", retry_after_seconds=1)

    def _by_measure(self) -> Iterator[Refused]:
        for error, waiting, most, what in (
            ("evidence_behind", self._unsealed, self._limits.unsealed_records, "records wait for their evidence object"),
            ("context_behind", self._lag.unbound_records, self._limits.unbound_records, "records wait for the context store"),
            ("decisions_behind", self._lag.undecided_flows, self._limits.undecided_flows, "flows wait for their decision"),
        ):  # fmt: skip
            if most and waiting > most:
                yield busy(error, f"{waiting} {what}, {most} may", retry_after_seconds=RETRY_AFTER_SECONDS)

    def _measure(self) -> None:
        with self._lock:
            now = self._clock.monotonic()
            if self._measured_at is None or now - self._measured_at >= MEASURE_INTERVAL_SECONDS:
                with self._database.scope() as connection:
                    self._unsealed = admissions.unsealed_records(connection, sealers=self._sealers)
                self._lag = self._downstream.lag()
                self._measured_at = now
