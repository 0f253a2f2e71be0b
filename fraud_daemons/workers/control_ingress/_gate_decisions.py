"""GET /v1/decisions/{id}: the decision's stored body, at once or as soon as it is there.

A waiting caller holds one of the service's few threads, so only some of them may wait at a time; the others are
answered at once. Nothing is decided here.
"""

from __future__ import annotations

import threading
from http import HTTPStatus

import orjson

from fraud_daemons.clock import Clock
from fraud_daemons.runtime.database import Database
from fraud_daemons.workers.control_ingress._gate_http import Reply, busy

POLL_SECONDS = 0.01
POLL_SECONDS_MAX = 0.05
RETRY_AFTER_SECONDS = 1


class Decisions:
    """Reads decisions for callers. `waiters_max` must stay below the number of threads."""

    def __init__(self, database: Database, clock: Clock, *, waiters_max: int, wait_ms_max: int) -> None:
        self._database = database
        self._clock = clock
        self._slots = threading.BoundedSemaphore(waiters_max)
        self._wait_ms_max = wait_ms_max
        self._never = threading.Event()

    def find(self, decision_id: str, *, wait_ms: int) -> Reply:
        """200 with the decision, 404 when it is not known by the end of the wait. Raises Refused (429)."""
        body = self._read(decision_id)
        if body is None and wait_ms > 0:
            body = self._wait(decision_id, seconds=min(wait_ms, self._wait_ms_max) / 1000)
        if body is None:
            return Reply.json(HTTPStatus.NOT_FOUND, {"error": "unknown", "detail": "no such decision yet",
                "fix": f"ask again, or with wait_ms up to {self._wait_ms_max}"})  # fmt: skip
        return Reply(HTTPStatus.OK, body)

    def _wait(self, decision_id: str, *, seconds: float) -> bytes | None:
        if not self._slots.acquire(blocking=False):
            raise busy(
                "waiters", "too many callers wait for decisions already", retry_after_seconds=RETRY_AFTER_SECONDS
            )
        try:
            deadline = self._clock.monotonic() + seconds
            pause, body = POLL_SECONDS, None
            while body is None and (left := deadline - self._clock.monotonic()) > 0:
                self._clock.wait(min(pause, left), self._never)
                pause = min(POLL_SECONDS_MAX, pause * 1.5)
                body = self._read(decision_id)
            return body
        finally:
            self._slots.release()

    def _read(self, decision_id: str) -> bytes | None:
        with self._database.scope() as connection:
            row = connection.execute("select body from df.decisions where decision_id = %s", (decision_id,)).fetchone()
        if row is None:
            return None
        return bytes(row[0]) if isinstance(row[0], bytes | memoryview) else orjson.dumps(row[0])
