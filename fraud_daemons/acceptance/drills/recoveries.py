"""How long a killed worker is away: from the signal to the new process, and to its first `ready`.

The new process is what supervision's audit says, ready what the worker's own heartbeat says; the moment of the signal is the drill's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fraud_daemons.clock import parse_iso
from fraud_daemons.observability.heartbeat import Heartbeat

Audit = Sequence[dict[str, Any]]


@dataclass
class Recovery:
    """One kill of one worker. Times in seconds since the signal; None = not seen."""

    worker: str
    pid: int
    killed_at: datetime
    ready_seconds: float | None = None


class Recoveries:
    """The kills of one drill. `look` as often as heartbeats may change hands: a worker killed again before it was ready
    says nothing of the kill before."""

    def __init__(self) -> None:
        self._all: list[Recovery] = []
        self._open: dict[str, Recovery] = {}

    def killed(self, worker: str, pid: int, at: datetime) -> None:
        """A signal was sent at `at`. A second one to a process that was not yet seen gone kills nobody."""
        if worker in self._open and self._open[worker].pid == pid:
            return
        recovery = Recovery(worker, pid, at)
        self._all.append(recovery)
        self._open[worker] = recovery

    @property
    def kills(self) -> int:
        return len(self._all)

    @property
    def open(self) -> bool:
        """Whether a killed worker was not seen ready since."""
        return bool(self._open)

    def look(self, beats: Iterable[Heartbeat]) -> None:
        """Note who became ready since he was killed."""
        for beat in beats:
            recovery = self._open.get(beat.worker)
            if recovery and beat.pid != recovery.pid and beat.state == "ready":
                recovery.ready_seconds = max(0.0, (parse_iso(beat.since) - recovery.killed_at).total_seconds())
                del self._open[beat.worker]

    def deaths(self, audit: Audit) -> list[dict[str, Any]]:
        """The deaths that these kills caused. Only the pid's first after its signal: in an hour pids come around again."""
        killed_at = {r.pid: r.killed_at for r in self._all}
        found: dict[int, dict[str, Any]] = {}
        for record in audit:
            at = killed_at.get(int(record.get("pid") or 0))
            if at is None or record.get("kind") != "exit" or record.get("signal") != "SIGKILL":
                continue
            if parse_iso(str(record["at"])) >= at:
                found.setdefault(record["pid"], record)
        return list(found.values())

    def all_died(self, audit: Audit) -> bool:
        """Whether the audit has every death."""
        return len(self.deaths(audit)) == len({recovery.pid for recovery in self._all})

    def ready_seconds(self, audit: Audit) -> list[float]:
        """Each kill's time until ready, sorted; of healthy workers, see `respawn_milliseconds`."""
        healthy = {death["pid"] for death in self.deaths(audit) if _at_once(death)}
        return sorted(r.ready_seconds for r in self._all if r.ready_seconds is not None and r.pid in healthy)

    def respawn_milliseconds(self, audit: Audit) -> list[float]:
        """From the signal to the next process, sorted. Only of deaths that supervision follows at once: a worker that dies
        again while it is young is no healthy one and waits its backoff."""
        killed_at = {r.pid: r.killed_at for r in self._all}
        deaths = {id(death) for death in self.deaths(audit) if _at_once(death)}
        died: dict[str, datetime] = {}
        found = []
        for record in audit:
            worker = str(record.get("worker"))
            if id(record) in deaths:
                died[worker] = killed_at[record["pid"]]
            elif record.get("kind") == "restart" and worker in died:
                found.append(round((parse_iso(str(record["at"])) - died.pop(worker)).total_seconds() * 1000, 1))
        return sorted(found)


def _at_once(death: dict[str, Any]) -> bool:
    return not death.get("respawn_seconds")
