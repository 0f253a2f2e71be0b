"""The audit of starts, stops and deaths, `events.ndjson`: one JSON object per line, appended in one write.

{at, worker, pack, kind: start|stop|exit|restart, cause: operator|exit_code|signal|configuration|finished|shutdown|lost,
pid, restarts} and, where known, exit_code, signal, uptime_seconds, drain_seconds, last_log_lines, operator, action.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

FILE_NAME: Final = "events.ndjson"
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
