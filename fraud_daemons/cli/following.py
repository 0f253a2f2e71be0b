"""Follows growing files line by line, also over their rotation: what `logs` and `events` share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from fraud_daemons.clock import SystemClock

POLL_SECONDS = 0.2
TAIL_BYTES_MAX = 512 * 1024


class FollowedFile:
    """One file and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode, self._offset = 0, 0

    def tail(self, lines: int) -> list[str]:
        """The last `lines` lines; reading goes on after them."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL_BYTES_MAX))
                content = file.read()
                self._inode, self._offset = self.path.stat().st_ino, size
        except OSError:
            return []
        return content.decode(errors="replace").splitlines()[-lines:] if lines else []

    def fresh(self) -> list[str]:
        """Whole lines written since the last read."""
        try:
            stat = self.path.stat()
            if stat.st_ino != self._inode or stat.st_size < self._offset:
                self._inode, self._offset = stat.st_ino, 0
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read(TAIL_BYTES_MAX)
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()


def follow(files: Sequence[FollowedFile]) -> Iterator[tuple[Path, str]]:
    """New lines of `files` as they come, until interrupted."""
    pause = threading.Event()
    while not SystemClock().wait(POLL_SECONDS, pause):
        for file in files:
            for line in file.fresh():
                yield file.path, line
