"""Makes an evidence object of each governance event, and notices workers that are held.

The supervisor writes a worker that is held into its own audit and connects to nothing; so this reads that audit and
writes the event down. It holds, starts and resumes nobody.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.evidence.keys import governance_key
from fraud_daemons.evidence.port import EvidenceConflict
from fraud_daemons.observability import events
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.worker import WorkerContext
from fraud_daemons.state import governance, runs
from fraud_daemons.state.governance import Event, Kind

AUDIT: Final = "events.ndjson"
AUDIT_BYTES_AT_ONCE_MAX: Final = 1024 * 1024
LOOK_EVERY_SECONDS: Final = 1.0
SUPERVISOR: Final = "supervisord"
_TOLD: Final[tuple[str, ...]] = ("pack", "cause", "pid", "exit_code", "reason")


def write_objects(context: WorkerContext) -> None:
    """Put what has no object yet; a crash in between repeats a put of the same bytes."""
    with context.database.scope() as connection:
        waiting = governance.unwritten(connection)
    for event in waiting:
        sha256 = hashlib.sha256(event.body).hexdigest()
        key = governance_key(
            platform_run_id=event.platform_run_id, kind=event.kind, event_id=event.event_id,
            at=event.happened_at.strftime("%Y%m%dT%H%M%S%fZ"),
        )  # fmt: skip
        state = _put(context, event, key, sha256)
        with context.database.scope() as connection:
            governance.settle(connection, event, object_key=key, sha256=sha256, state=state)


def _put(context: WorkerContext, event: Event, key: str, sha256: str) -> str:
    try:
        context.store.put_once(key, event.body, sha256=sha256)
    except EvidenceConflict as conflict:  # this one is lost to whoever wrote there, and the report names it
        context.log.error(events.GOVERNANCE_CONFLICTED, run=event.platform_run_id, key=key, message=str(conflict))
        return "CONFLICT"
    context.log.info(events.GOVERNANCE_WRITTEN, run=event.platform_run_id, kind=str(event.kind), key=key)
    return "COMPLETE"


class HeldWatch(PlainActivity):
    """Reads the supervisor's audit as it grows. After a restart it reads all of it again: an event is written down once."""

    name = "run_reporter.held"

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._path: Path = context.profile.path(AUDIT)
        self.forget()

    def forget(self) -> None:
        self._offset, self._inode = 0, 0

    def step(self) -> Outcome:
        held = [record for record in self._read_on() if is_held(record)]
        if held:
            with self._context.database.scope() as connection:
                self._write_down(connection, held)
        return Outcome(records=len(held), rest_seconds=LOOK_EVERY_SECONDS)

    def _write_down(self, connection: Connection, held: list[dict[str, Any]]) -> None:
        run = runs.current(connection)
        for record in held:
            at = datetime.fromisoformat(record["at"])
            if run is not None and at < run.started_at:  # of an earlier run; told while that one was current
                continue
            detail = {name: record[name] for name in _TOLD if name in record}
            governance.record(
                connection, Kind.WORKER_HELD, subject=record["worker"], by=SUPERVISOR, at=at, detail=detail
            )

    def _read_on(self) -> list[dict[str, Any]]:
        """Whole lines written since the last look; the file begins anew when it was rotated."""
        try:
            stat = self._path.stat()
            if stat.st_ino != self._inode or stat.st_size < self._offset:
                self._inode, self._offset = stat.st_ino, 0
            if stat.st_size == self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                written = file.read(AUDIT_BYTES_AT_ONCE_MAX)
        except OSError:  # not made yet, or just being replaced
            return []
        whole = written[: written.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [record for line in whole.splitlines() if (record := _record(line))]


def is_held(record: dict[str, Any]) -> bool:
    """Whether the supervisor gave a worker up until somebody resumes it."""
    return record.get("kind") == "held" or (record.get("kind") == "exit" and record.get("cause") == "configuration")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"at", "worker"} <= record.keys() else None
