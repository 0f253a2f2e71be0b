"""Puts parts of the incident back, when the drill that reproduces it asks, and never otherwise.

Two things were wrong together: a connection per operation, and loops that ended with the first failed connect. Each can be
put back alone (`incident.connector`, `incident.containment`); `config.profiles` refuses either unless the drill asks.
"""

from __future__ import annotations

from dataclasses import replace

from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.heartbeat import WorkerState
from fraud_daemons.postgres_runtime import connection_per_operation, counters
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.loop import Loop, Turn


class LoopWithoutContainment(Loop):
    """The first fault of the database ends the process, as an uncaught OperationalError did."""

    def _contain(self, turn: Turn, kind: str, state: WorkerState, reason: str) -> None:
        super()._contain(turn, kind, state, reason)
        if reason.startswith("postgres: "):
            self._exit = ExitCode.NO


def loop_of(profile: Profile) -> type[Loop]:
    """The loop that contains faults, unless the drill asks for the other."""
    return Loop if profile.get("incident.containment") else LoopWithoutContainment


def with_connector(profile: Profile, database: Database) -> Database:
    """The database with the shared connector, unless the drill asks for a connection per operation."""
    if profile.get("incident.connector") == "shared":
        return database
    return replace(database, borrow=connection_per_operation.connection_per_operation)


def connector_figures(profile: Profile) -> dict[str, int]:
    """Counters of the connector that is in use."""
    shared = profile.get("incident.connector") == "shared"
    return counters() if shared else connection_per_operation.figures()
