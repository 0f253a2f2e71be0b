"""Which stage has not caught up: checkpoints against heads, evidence written, streams ended. Read from the tables, never
from a worker's own counters.

A checkpoint knows no run, so neither does this: it speaks of the platform, whatever run it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load


@dataclass(frozen=True)
class Behind:
    """A stage that has not caught up: who, on what, by how many records."""

    stage: str
    what: str
    records: int

    def __str__(self) -> str:
        return f"{self.stage} is {self.records} behind on {self.what}"


def behind(connection: Connection) -> list[Behind]:
    """Every stage that is not through, furthest behind first."""
    rows = connection.execute(load("fraud_daemons.state.sql", "progress_behind.sql"))
    return [Behind(*row) for row in rows]
