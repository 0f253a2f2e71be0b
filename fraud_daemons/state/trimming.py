"""What trimming of the bus asks and does: where partitions begin, who still stands where, and the deletion itself.

Positions and ledgers are asked on the servers where they stand; the deletion is one statement on the bus's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.every_server import every_server
from fraud_daemons.state.segments import Segment

_SQL = "fraud_daemons.state.sql"
LEDGERS: Final = ((IG_ADMISSION_DSN, "ig"), ("DLA_INDEX_DSN", "dla"), ("ARCHIVE_WRITER_LEDGER_DSN", "archive"))
"""Whose objects are made from records of the bus: DSN name, schema of its `segments`."""

Where = tuple[str, int]
"""(topic, partition)"""


@dataclass(frozen=True)
class Extent:
    """A partition: the oldest record that is there, and the next one to come."""

    begins: int
    head: int


@dataclass(frozen=True)
class Stand:
    """Somebody who needs a partition's records from `position` on."""

    who: str
    position: int


@dataclass(frozen=True)
class Gone:
    """What was deleted of one run: how many records, and the hash over their places and ids."""

    records: int
    ids_sha256: str


def extents(bus: Connection) -> dict[Where, Extent]:
    """Every partition of the bus."""
    rows = bus.execute(
        'select topic, "partition", coalesce(first_position, 0), next_position from bus.heads'
        ' left join bus.beginnings using (topic, "partition")'
    )
    return {(topic, partition): Extent(begins, head) for topic, partition, begins, head in rows}


def stands(at: ConnectionOf) -> dict[Where, list[Stand]]:
    """Who needs what: every checkpoint on every server, every object that is intended and not known to be put, and every
    reader of the packs that has no checkpoint yet."""
    found: dict[Where, list[Stand]] = {}
    for connection in every_server(at):
        rows = connection.execute('select topic, "partition", worker, "position" from checkpoints.positions')
        _add(found, rows.fetchall())
    for name, schema in LEDGERS:
        statement = sql.SQL(
            "select topic, \"partition\", 'an object of ' || family, min(first_position) from {}.segments"
            " where state = 'INTENT' group by 1, 2, 3"
        )
        _add(found, at(name).execute(statement.format(sql.Identifier(schema))).fetchall())
    for where, worker in subscribers(bus_of(at)):
        if worker not in {stand.who.partition(".")[0] for stand in found.get(where, ())}:
            _add(found, [(*where, worker, 0)])  # it has not begun yet
    return found


def subscribers(bus: Connection) -> list[tuple[Where, str]]:
    """Who the packs say reads a partition."""
    rows = bus.execute('select topic, "partition", worker from bus.subscribers join bus.heads using (topic)')
    return [((topic, partition), worker) for topic, partition, worker in rows]


def subscribe(bus: Connection, readers: Sequence[tuple[str, str]]) -> None:
    """What the packs say now, in place of what they said before: (topic, worker)."""
    bus.execute("delete from bus.subscribers")
    bus.execute(
        "insert into bus.subscribers (topic, worker) select * from unnest(%s::text[], %s::text[]) on conflict do nothing",
        ([topic for topic, _ in readers], [worker for _, worker in readers]),
    )


def ledger_from(archive: Connection, where: Where, begins: int, *, limit: int) -> list[tuple[Segment, bool]]:
    """The archive's next segments of a partition, whatever their run, and whether each object is known to be put."""
    rows = archive.execute(
        'select platform_run_id, family, topic, "partition", first_position, last_position, records, previous_sha256, sha256,'
        " object_key, state = 'COMPLETE' from archive.segments where family = 'archive' and topic = %s and \"partition\" = %s"
        " and first_position >= %s order by first_position, platform_run_id limit %s",
        (*where, begins, limit),
    )
    return [(Segment(*row[:-1]), row[-1]) for row in rows]


def old_enough(bus: Connection, where: Where, positions: Sequence[int], *, age_seconds: float) -> set[int]:
    """Those of the positions whose record was appended so long ago, by the bus's own clock."""
    rows = bus.execute(
        'select "position" from bus.log where topic = %s and "partition" = %s and "position" = any(%s)'
        " and appended_at <= clock_timestamp() - make_interval(secs => %s)",
        (*where, list(positions), age_seconds),
    )
    return {row[0] for row in rows}


def trim(bus: Connection, where: Where, *, first: int, end: int) -> dict[str, Gone]:
    """Delete [first, end) of a partition; per run what that was. The caller compares and rolls back if it is not as known."""
    rows = bus.execute(
        load(_SQL, "trimming_trim.sql"), {"topic": where[0], "partition": where[1], "first": first, "end": end}
    )
    return {run: Gone(records, digest) for run, records, digest in rows}


def stored_bytes(bus: Connection) -> dict[str, int]:
    """What the log takes with its index, and what the whole database does that it stands in."""
    row = bus.execute("select pg_total_relation_size('bus.log'), pg_database_size(current_database())").fetchone()
    return {"log": row[0], "database": row[1]} if row else {}


def bus_of(at: ConnectionOf) -> Connection:
    """The bus's own server."""
    return at(EVENT_BUS_DSN)


def _add(found: dict[Where, list[Stand]], rows: Iterable[Sequence[object]]) -> None:
    for topic, partition, who, position in rows:
        found.setdefault((str(topic), int(str(partition))), []).append(Stand(str(who), int(str(position))))


def behind_most(stands: Mapping[Where, Sequence[Stand]], where: Where) -> Stand | None:
    """Who stands furthest back on a partition."""
    return min(stands.get(where, ()), key=lambda stand: (stand.position, stand.who), default=None)
