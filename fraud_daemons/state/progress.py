"""Which stage has not caught up: checkpoints against heads, evidence written, streams ended. Read from the tables, never
from a worker's own counters.

A checkpoint knows no run, so neither does this: it speaks of the platform, whatever run it is asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.every_server import every_server

_SQL = "fraud_daemons.state.sql"
_UNFINISHED: Final = (
    ("WSP_CHECKPOINT_DSN", "progress_streams.sql"),
    (IG_ADMISSION_DSN, "progress_receipts.sql"),
    ("DLA_INDEX_DSN", "progress_audits.sql"),
    ("ARCHIVE_WRITER_LEDGER_DSN", "progress_archive.sql"),
)
"""What is begun and not ended, per component: DSN name, statement giving (stage, what, records)."""


@dataclass(frozen=True)
class Behind:
    """A stage that has not caught up: who, on what, by how many records."""

    stage: str
    what: str
    records: int

    def __str__(self) -> str:
        return f"{self.stage} is {self.records} behind on {self.what}"


def behind(at: ConnectionOf) -> list[Behind]:
    """Every stage that is not through, furthest behind first."""
    # checkpoints before heads: what is published meanwhile may show as still to come, never as passed
    checkpoints: list[tuple[str, str, int, int]] = []
    found = []
    for connection in every_server(at):
        checkpoints += connection.execute('select worker, topic, "partition", "position" from checkpoints.positions')
        found += [Behind(*row) for row in connection.execute(load(_SQL, "progress_outbox.sql"))]
    heads = {
        (topic, partition): position
        for topic, partition, position in at(EVENT_BUS_DSN).execute(
            'select topic, "partition", next_position from bus.heads'
        )
    }
    records = Counter[tuple[str, str]]()
    for worker, topic, partition, position in checkpoints:
        records[worker, topic] += max(0, heads.get((topic, partition), 0) - position)
    found += [Behind(worker, topic, count) for (worker, topic), count in records.items() if count]
    for name, statement in _UNFINISHED:
        found += [Behind(*row) for row in at(name).execute(load(_SQL, statement))]
    return sorted(found, key=lambda stage: (-stage.records, stage.stage, stage.what))
