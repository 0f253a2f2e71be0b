"""Who a process is: pid + start time + boot id, so that a recycled pid is never taken for an old worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Start time of `pid` in clock ticks since boot; None when there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def frozen(pid: int) -> bool:
    """Whether `pid` is stopped by a signal: it looks alive, its sockets take connections, and nobody answers."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot."""

    pid: int
    start_ticks: int
    boot_id: str

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks


def identity_of(pid: int) -> ProcessIdentity | None:
    """The identity of a running process, None when it is gone."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=boot_id())
