"""The audit of starts, stops and deaths, read as it grows: the newest records, each with what the page needs of it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, Final

import orjson

RECORDS_KEPT_MAX: Final = 200
TAIL_BYTES_MAX: Final = 256 * 1024
_KEPT: Final = ("at", "worker", "pack", "kind", "cause", "pid", "restarts", "signal", "exit_code", "operator", "action", "uptime_seconds")  # fmt: skip


class Timeline:
    """Follows one file by its size; a file that became smaller was rotated and is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None
        self._rest = b""
        self._records: deque[dict[str, Any]] = deque(maxlen=RECORDS_KEPT_MAX)

    def newest(self) -> list[dict[str, Any]]:
        """The newest records, oldest first; what cannot be read is left out."""
        try:
            self._read_on()
        except OSError:  # not made yet, or just being replaced
            pass
        return list(self._records)

    def _read_on(self) -> None:
        size = self._path.stat().st_size
        if self._offset is None:
            self._offset = max(0, size - TAIL_BYTES_MAX)
        elif size < self._offset:
            self._offset, self._rest = 0, b""
        if size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            written = file.read(TAIL_BYTES_MAX)
        self._offset += len(written)
        *lines, self._rest = (self._rest + written).split(b"\n")
        self._records.extend(record for line in lines if (record := _record(line)))


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except ValueError:  # the first line of a tail is cut
        return None
    return {name: record[name] for name in _KEPT if name in record} if isinstance(record, dict) else None
