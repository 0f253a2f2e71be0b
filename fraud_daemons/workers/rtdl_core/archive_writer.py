"""Writes every topic to the object store as gzip NDJSON: all of it, in order, each record once.

The range and its hash are committed to the ledger (`archive.segments`) together with the checkpoint, then the object is
put, then the row is complete (`runtime.sealing`). So the ledger is never behind an object, and a crash repeats a put of
the same bytes. There is no cursor beside the ledger that could be lost or be ahead of it: both move in one transaction.

An object belongs to the run of its records; records that name no run lie below `unpinned/`.

What is archived and passed by everybody it trims from the bus by the profile's `trim` settings (`_trimming`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fraud_daemons.bus.port import Record
from fraud_daemons.config.topics import TOPICS
from fraud_daemons.evidence.archive_lines import EXTENSION, line_of, packed
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.sealing import Form, rendered
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.workers.rtdl_core._trimming import Trimmer

FAMILY: Final = "archive"


def _lines(_connection: Connection, records: Sequence[Record]) -> list[Any]:
    return [
        line_of(
            position=record.position,
            event_id=record.event_id,
            key=record.key,
            appended_at=record.appended_at,
            body=bytes(record.body),
        )
        for record in records
    ]


def _encode(_facts: Mapping[str, Any], values: Sequence[Any]) -> bytes:
    return packed(values)


def build(context: WorkerContext) -> list[Activity]:
    """One sealer of every topic, and the trimming of what it has put."""
    entries = rendered(context.bus, _lines, same_server=context.same_server)
    sealer = context.sealer(
        entries, family=FAMILY, topics=WORKER.consumes, name=FAMILY, form=Form(_encode, extension=EXTENSION)
    )
    return [sealer, Trimmer(context)]


WORKER = Worker(
    name="archive_writer",
    schema="archive",
    dsn="ARCHIVE_WRITER_LEDGER_DSN",
    build=build,
    keeps_plans=True,
    consumes=TOPICS,
    equations=("published_equals_archived",),
)
