"""The lock that a worker's one live copy holds; a second copy waits for it, says for whom, and does nothing else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fraud_daemons.observability.process_identity import identity_of, start_ticks


class WorkerLock:
    """An exclusive lock on a file; released by the kernel when its holder is gone, however it went."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_take(self) -> bool:
        """Take it if it is free; the file then names this process."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        me = identity_of(os.getpid())
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {me.start_ticks if me else 0}\n".encode(), 0)
        return True

    def holder(self) -> str:
        """Who holds it, for a status line."""
        pid = self._path.read_text().split(maxsplit=1)[:1]
        if pid and pid[0].isdigit() and start_ticks(int(pid[0])) is not None:
            return f"pid {pid[0]}"
        return "an unknown process"
