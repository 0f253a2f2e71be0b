"""Publishing to a bus on another server: records commit with their state and are forwarded in order afterwards.

A crash between the append and the deletion repeats the append; the bus takes each of the producer's sequences once.
"""

from __future__ import annotations

from collections.abc import Sequence

from fraud_daemons.bus.port import Bus, OutRecord
from fraud_daemons.postgres_runtime.connector import Connection

FORWARD_RECORDS_MAX = 1000


def put(connection: Connection, producer: str, records: Sequence[OutRecord]) -> None:
    """Store `records` behind the producer's last sequence, inside the caller's transaction."""
    if not records:
        return
    row = connection.execute(
        "insert into outbox.sequences as s (producer, next_sequence) values (%s, 1 + %s)"
        " on conflict (producer) do update set next_sequence = s.next_sequence + %s returning next_sequence",
        (producer, len(records), len(records)),
    ).fetchone()
    first = (row[0] if row else 1) - len(records)
    statement = "copy outbox.pending (producer, sequence, topic, record_key, event_id, platform_run_id, body) from stdin (format binary)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["text", "int8", "text", "text", "text", "text", "bytea"])
        for offset, record in enumerate(records):
            copy.write_row((producer, first + offset, *record))


def pending(connection: Connection, producer: str) -> list[tuple[int, OutRecord]]:
    """The oldest records that still wait, with their sequences."""
    rows = connection.execute(
        "select sequence, topic, record_key, event_id, platform_run_id, body from outbox.pending"
        " where producer = %s order by sequence limit %s",
        (producer, FORWARD_RECORDS_MAX),
    )
    return [(row[0], OutRecord(*row[1:])) for row in rows]


def forward(bus: Bus, producer: str, waiting: Sequence[tuple[int, OutRecord]]) -> None:
    """Append waiting records to the bus; those already taken in an earlier try are absorbed there."""
    with bus.transaction() as log:
        log.append(
            [record for _, record in waiting], producer=producer, sequences=[sequence for sequence, _ in waiting]
        )


def forget(connection: Connection, producer: str, *, up_to: int) -> None:
    """Delete what has been forwarded, up to and including sequence `up_to`."""
    connection.execute("delete from outbox.pending where producer = %s and sequence <= %s", (producer, up_to))
