"""How many database sessions the platform may open at most, counted before anything starts, against what a server allows.

A bound and not a forecast: each worker's loop may hold a session and a second one (another role or longer timeouts),
each of the gate's request threads one per DSN that a request may touch. A listener waits on its worker's own session,
and the console's pages read what its loop has read, so neither adds any.
"""

from __future__ import annotations

from dataclasses import dataclass

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.profiles import Profile

SESSIONS_PER_WORKER = 2
COMMANDS_AT_ONCE = 4  # what operators run beside it: a report, a trace, a backup
_GATE_DSNS = ("IG_ADMISSION_DSN", "DF_REPLAY_DSN", PLATFORM_DSN)  # what a request may read and write


@dataclass(frozen=True)
class ConnectionBudget:
    """The sum and its parts; the same on each server, since each may be everybody's."""

    workers: int
    gate_threads: int
    sessions_per_thread: int
    reserve: int

    @property
    def needed(self) -> int:
        """All sessions and the reserve."""
        of_workers = self.workers * SESSIONS_PER_WORKER
        return of_workers + self.gate_threads * self.sessions_per_thread + COMMANDS_AT_ONCE + self.reserve

    def sum_text(self, allowed: int) -> str:
        """The sum as it is told: "16 workers x 2 + 4 gate threads x 1 + 4 commands + reserve 8 = 48 of 60"."""
        return (
            f"{self.workers} workers x {SESSIONS_PER_WORKER} + {self.gate_threads} gate threads x {self.sessions_per_thread}"
            f" + {COMMANDS_AT_ONCE} commands + reserve {self.reserve} = {self.needed} of {allowed}"
        )

    def remedy(self, allowed: int, setting: str) -> str | None:
        """What to change where the sum does not fit below `allowed`; None where it does."""
        if self.needed < allowed:
            return None
        return f"set {setting} above {self.needed}, or fewer gate.threads"

    def problem(self, allowed: int, setting: str) -> str | None:
        """`remedy` with its sum, in one line."""
        remedy = self.remedy(allowed, setting)
        return f"too many connections: {self.sum_text(allowed)}; {remedy}" if remedy else None


def connection_budget(profile: Profile, *, workers: int) -> ConnectionBudget:
    """The budget of a profile that runs so many workers."""
    return ConnectionBudget(
        workers=workers,
        gate_threads=profile.get("gate.threads"),
        sessions_per_thread=len({name if name in profile.dsns else PLATFORM_DSN for name in _GATE_DSNS}),
        reserve=profile.get("database.connections_reserve"),
    )
