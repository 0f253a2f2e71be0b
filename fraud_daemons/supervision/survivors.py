"""Finds and ends processes of a run directory that no supervisor watches any more.

A process is ours when its environment carries the mark `PLATFORM_RUN_DIR=<run_dir>`, or when it is PostgreSQL working in
our data directory (its backends overwrite their environment with their title). Our own ancestors are never touched.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fraud_daemons.clock import SystemClock
from fraud_daemons.observability.process_identity import ProcessIdentity, identity_of
from fraud_daemons.supervision.deployment import RUN_DIR_VARIABLE

TERMINATE_SECONDS_MAX = 5.0
KILL_SECONDS_MAX = 5.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Survivor:
    """A process of ours, by identity and by the words an operator knows it under."""

    process: ProcessIdentity
    command: str

    def __str__(self) -> str:
        return f"pid {self.process.pid} ({self.command})"


def find_survivors(run_dir: Path) -> list[Survivor]:
    """Every living process of `run_dir`, supervisord included."""
    mark = _mark(run_dir)
    spared = _ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in spared and _is_ours(entry, mark, run_dir):
            identity = identity_of(int(entry.name))
            if identity:
                found.append(Survivor(identity, _command(entry)))
    return found


def end_survivors(run_dir: Path) -> tuple[list[Survivor], list[Survivor]]:
    """Terminate, then kill, whatever is left of `run_dir`. Returns (all that were found, those still alive)."""
    everyone: dict[ProcessIdentity, Survivor] = {}
    for number, seconds in ((signal.SIGTERM, TERMINATE_SECONDS_MAX), (signal.SIGKILL, KILL_SECONDS_MAX)):
        found = find_survivors(run_dir)
        everyone |= {survivor.process: survivor for survivor in found}
        if not found:
            return list(everyone.values()), []
        _signal_all(found, number)
        _wait_gone(found, seconds)
    return list(everyone.values()), find_survivors(run_dir)


def _signal_all(survivors: Iterable[Survivor], number: signal.Signals) -> None:
    for survivor in survivors:
        # PostgreSQL takes SIGTERM as "wait for every client, for ever"; SIGINT is its quick and clean stop
        chosen = signal.SIGINT if number == signal.SIGTERM and survivor.command.startswith("postgres") else number
        try:
            if survivor.process.alive():
                os.kill(survivor.process.pid, chosen)
                os.kill(survivor.process.pid, signal.SIGCONT)  # a frozen one hears nothing else
        except ProcessLookupError:
            pass  # it left by itself


def _wait_gone(survivors: list[Survivor], seconds: float) -> None:
    clock, pause = SystemClock(), threading.Event()
    deadline = clock.monotonic() + seconds
    while any(s.process.alive() for s in survivors) and clock.monotonic() < deadline:
        clock.wait(POLL_SECONDS, pause)


def is_ours(pid: int, run_dir: Path) -> bool:
    """Whether `pid` is a process of `run_dir`."""
    return _is_ours(Path(f"/proc/{pid}"), _mark(run_dir), run_dir)


def _mark(run_dir: Path) -> bytes:
    return f"{RUN_DIR_VARIABLE}={run_dir}".encode()


def _is_ours(entry: Path, mark: bytes, run_dir: Path) -> bool:
    try:
        if mark in (entry / "environ").read_bytes().split(b"\0"):
            return True
        return (entry / "comm").read_text().strip() == "postgres" and (entry / "cwd").readlink() == run_dir / "postgres"
    except OSError:  # it has just left, or belongs to another user
        return False


def _command(entry: Path) -> str:
    """Its program and, for one of our workers, the worker's name."""
    try:
        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
    except OSError:
        return "gone"
    if "run" in words[:-1] and "worker" in words:
        return f"worker {words[words.index('run') + 1]}"
    if any(word.endswith("supervisord.conf") for word in words):
        return "supervisord"
    return Path(words[0]).name if words else "unnamed"


def _ancestors() -> set[int]:
    """Ourselves and every process above us."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found
