"""The audit of starts, stops and deaths, `events.ndjson`: one JSON object per line, appended in one write.

{at, worker, pack, kind: start|stop|exit|restart|held, cause:
operator|exit_code|signal|watchdog|configuration|finished|shutdown|lost|deaths, pid, restarts} and, where known, exit_code,
signal, beat_age_seconds, uptime_seconds, drain_seconds, not_counted (the outage that excuses a death), last_log_lines,
reason, operator, action. Kind `incident` has its fields in `incidents.Incidents`; there `worker` is what is to blame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

FILE_NAME: Final = "events.ndjson"
TAIL_BYTES_MAX: Final = 512 * 1024
AUDIT_BYTES_MAX: Final = 16 * 1024 * 1024  # then it becomes events.ndjson.1, once


class AuditFile:
    """Appends one JSON object per line; a full disk costs audit lines, never supervision."""

    def __init__(self, path: Path, *, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain

    def append(self, record: dict[str, Any]) -> None:
        line = (json.dumps(record) + "\n").encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                full = os.fstat(descriptor).st_size > AUDIT_BYTES_MAX
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
            if full:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError as error:
            self._complain(f"audit record lost ({error}): {line.decode().strip()}")


def newest_records(run_dir: Path) -> list[dict[str, Any]]:
    """The records in the last half MiB of the audit, oldest first; [] when there is none."""
    try:
        with (run_dir / FILE_NAME).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = file.seek(max(0, size - TAIL_BYTES_MAX))
            lines = file.read(TAIL_BYTES_MAX).split(b"\n")
    except OSError:
        return []
    records = [_record(line) for line in (lines[1:] if begin else lines)]
    return [record for record in records if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # cut short by a full disk
        return None
    return record if isinstance(record, dict) else None
