"""The last lines a process wrote: of its crash log, else of its own JSON log. Bounded; a line cut in two is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

TAIL_BYTES_MAX: Final = 4096
TAIL_LINES_MAX: Final = 8


@dataclass
class LastWords:
    """The logs of one program, and how long each was when its present process began."""

    logs: tuple[Path, ...]
    """In the order in which they are asked."""
    _offsets: tuple[int, ...] = ()

    def begin(self) -> None:
        """A new process: what is there so far was said by an earlier one."""
        self._offsets = tuple(_size(log) for log in self.logs)

    def lines(self) -> list[str]:
        """Up to eight lines of the first log in which this process wrote any."""
        for log, offset in zip(self.logs, self._offsets or (0,) * len(self.logs), strict=True):
            if lines := _tail(log, offset=offset):
                return lines
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tail(path: Path, *, offset: int) -> list[str]:
    size = _size(path)
    since = offset if size >= offset else 0  # smaller than it was: rotated
    begin = max(since, size - TAIL_BYTES_MAX)
    try:
        with path.open("rb") as file:
            file.seek(begin)
            lines = file.read(TAIL_BYTES_MAX).decode(errors="replace").splitlines()
    except OSError:
        return []
    whole = lines[1:] if begin > since and len(lines) > 1 else lines
    return [line for line in whole if line.strip()][-TAIL_LINES_MAX:]
