"""Where the archive of a run ends, by its ledger."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.trimming import Where

ARCHIVE_DSN: Final = "ARCHIVE_WRITER_LEDGER_DSN"
_SQL: Final = "fraud_daemons.state.sql"


class ArchiveEnd(NamedTuple):
    """The newest segment of a run in one partition: its last record, and the hash that its chain ends with."""

    last_position: int
    sha256: str


def archive_ends(at: ConnectionOf, run: str, places: Collection[Where]) -> dict[Where, ArchiveEnd]:
    """Per partition, of those named, that has a segment of the run."""
    rows = at(ARCHIVE_DSN).execute(
        load(_SQL, "archive_ends.sql"),
        {"run": run, "topics": [topic for topic, _ in places], "partitions": [partition for _, partition in places]},
    )
    return {(topic, partition): ArchiveEnd(*end) for topic, partition, *end in rows}
