"""Looks on while a drill runs: second copies of a worker, who was ready when, what the workers named, who died unasked.

It reads /proc, heartbeats, worker logs and the audit; it connects to nothing, so no outage blinds it.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from fraud_daemons.config.profiles import Profile
from fraud_daemons.observability import events
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat
from fraud_daemons.supervision.audit import FILE_NAME
from fraud_daemons.supervision.deployment import RUN_DIR_VARIABLE

LOOK_EVERY_SECONDS = 0.2
_BY_ITSELF = ("signal", "exit_code", "configuration", "watchdog")
"""Causes of an exit that nobody asked for."""


@dataclass
class Witness:
    """Between enter and exit. `doubles`: workers seen with two copies at once; `looks`: how often it looked."""

    profile: Profile
    doubles: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    _offsets: dict[Path, int] = field(default_factory=dict)
    _opened: dict[tuple[str, int], int] = field(default_factory=dict)
    _opened_before: dict[tuple[str, int], int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Witness:
        for path in [*self.profile.path("logs").glob("*.log"), self.profile.path(FILE_NAME)]:
            self._offsets[path] = path.stat().st_size if path.exists() else 0
        self._note_connections()
        self._opened_before = dict(self._opened)
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_SECONDS):
            self.looks += 1
            copies = Counter(running_copies(self.profile.run_dir))
            self.doubles.update(name for name, count in copies.items() if count > 1)
            self._note_connections()

    def _note_connections(self) -> None:
        for beat in beats_of(self.profile):
            self._opened[beat.worker, beat.pid] = beat.connector.get("opened", 0)

    @property
    def connections_opened(self) -> int:
        """Sessions that the workers opened meanwhile, new processes included."""
        return sum(opened - self._opened_before.get(key, 0) for key, opened in self._opened.items())

    def named(self) -> Counter[str]:
        """Reasons of the faults that workers contained meanwhile, from their own logs."""
        found: Counter[str] = Counter()
        for path in self.profile.path("logs").glob("*.log"):
            for record in self._records_since(path):
                if record.get("event") == events.FAULT_CONTAINED:
                    found[str(record.get("reason"))] += 1
        return found

    def deaths(self) -> list[dict[str, Any]]:
        """Exits that nobody asked for, of workers: the substrate is what drills break."""
        return [
            record
            for record in self.audit()
            if record.get("kind") == "exit" and record.get("cause") in _BY_ITSELF and record.get("pack") != "substrate"
        ]

    def audit(self) -> list[dict[str, Any]]:
        """The audit's lines since the drill began."""
        return self._records_since(self.profile.path(FILE_NAME))

    def _records_since(self, path: Path) -> list[dict[str, Any]]:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                begin = self._offsets.get(path, 0)
                file.seek(begin if begin <= size else 0)  # shorter than it was: rotated, all of it is new
                lines = file.read().splitlines()
        except OSError:
            return []
        records = []
        for line in lines:
            try:
                record = orjson.loads(line)
            except ValueError:  # crash text, or a line being written
                continue
            if isinstance(record, dict):
                records.append(record)
        return records


def beats_of(profile: Profile) -> list[Heartbeat]:
    """Every worker's last heartbeat."""
    return [beat for path in profile.path("beats").glob("*.json") if (beat := read_heartbeat(path))]


def running_copies(run_dir: Path) -> list[str]:
    """Names of the workers that run for `run_dir`, one entry per process; forks of a copy and waiting launchers aside."""
    mark = f"{RUN_DIR_VARIABLE}={run_dir}".encode()
    found: dict[int, tuple[str, int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"worker" not in words or b"run" not in words or any(w.endswith(b"launcher.py") for w in words):
                continue
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found[int(entry.name)] = (words[words.index(b"run") + 1].decode(), parent)
        except (OSError, IndexError):
            continue
    return [name for name, parent in found.values() if found.get(parent, ("", 0))[0] != name]
