"""The ledger of evidence segments of one component: what is to be written, and what has been.

Every component that writes evidence has a table `<schema>.segments` of this shape. The row is committed before the put
(range, sha256, key); after the put it is complete. A crash between the two repeats the put of the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class Segment:
    """One segment of one run: a fixed range of positions of one partition, and the object it becomes."""

    platform_run_id: str
    family: str
    topic: str
    partition: int
    first_position: int
    last_position: int
    records: int
    previous_sha256: str
    sha256: str
    object_key: str


_COLUMNS = 'platform_run_id, family, topic, "partition", first_position, last_position, records, previous_sha256, sha256, object_key'


def intend(connection: Connection, schema: str, segments: Sequence[Segment]) -> None:
    """Record that these segments are to be written."""
    statement = sql.SQL(
        "insert into {}.segments (" + _COLUMNS + ", state) values (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,'INTENT')"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            statement.format(sql.Identifier(schema)),
            [
                (
                    s.platform_run_id,
                    s.family,
                    s.topic,
                    s.partition,
                    s.first_position,
                    s.last_position,
                    s.records,
                    s.previous_sha256,
                    s.sha256,
                    s.object_key,
                )
                for s in segments
            ],
        )


def unwritten(connection: Connection, schema: str, family: str, *, limit: int) -> list[Segment]:
    """Segments whose put is not known to have succeeded, oldest first."""
    statement = sql.SQL(
        "select " + _COLUMNS + " from {}.segments where family = %s and state = 'INTENT' order by topic, \"partition\","
        " first_position, platform_run_id limit %s"
    )
    rows = connection.execute(statement.format(sql.Identifier(schema)), (family, limit))
    return [Segment(*row) for row in rows]


def of_run(connection: Connection, schema: str, family: str, run: str) -> list[tuple[Segment, bool]]:
    """Every segment of a run in order, and whether its object is known to have been put."""
    statement = sql.SQL(
        "select " + _COLUMNS + ", state = 'COMPLETE' from {}.segments where platform_run_id = %s and family = %s"
        ' order by topic, "partition", first_position'
    )
    rows = connection.execute(statement.format(sql.Identifier(schema)), (run, family))
    return [(Segment(*row[:-1]), row[-1]) for row in rows]


@dataclass(frozen=True)
class ChainEnd:
    """How far one chain of a run goes: segments so far, and the newest one's hash."""

    family: str
    topic: str
    partition: int
    segments: int
    sha256: str


def chain_ends(connection: Connection, schema: str, run: str) -> list[ChainEnd]:
    """The end of each of a run's chains, in order of family and place."""
    statement = sql.SQL(
        'select family, topic, "partition", count(*), (array_agg(sha256 order by first_position desc))[1]'
        ' from {}.segments where platform_run_id = %s group by family, topic, "partition" order by 1, 2, 3'
    )
    return [ChainEnd(*row) for row in connection.execute(statement.format(sql.Identifier(schema)), (run,))]


def holding(connection: Connection, schema: str, family: str, run: str, place: tuple[str, int, int]) -> str | None:
    """Key of the object that holds the record at `place` (topic, partition, position); None when none is known to."""
    topic, partition, position = place
    row = connection.execute(
        sql.SQL(
            'select object_key from {}.segments where family = %s and topic = %s and "partition" = %s'
            " and first_position <= %s and last_position >= %s and platform_run_id = %s and state = 'COMPLETE'"
            " order by first_position desc limit 1"
        ).format(sql.Identifier(schema)),
        (family, topic, partition, position, position, run),
    ).fetchone()
    return str(row[0]) if row else None


def complete(connection: Connection, schema: str, segment: Segment) -> None:
    """Record that the object is there."""
    connection.execute(
        sql.SQL(
            "update {}.segments set state = 'COMPLETE' where family = %s and topic = %s and \"partition\" = %s"
            " and first_position = %s and platform_run_id = %s"
        ).format(sql.Identifier(schema)),
        (segment.family, segment.topic, segment.partition, segment.first_position, segment.platform_run_id),
    )


def last_sha256(connection: Connection, schema: str, family: str, *, topic: str, partition: int, run: str) -> str:
    """Hash of the run's newest segment of this partition, "" for the first: each segment names the one before it."""
    row = connection.execute(
        sql.SQL(
            'select sha256 from {}.segments where family = %s and platform_run_id = %s and topic = %s and "partition" = %s'
            " order by first_position desc limit 1"
        ).format(sql.Identifier(schema)),
        (family, run, topic, partition),
    ).fetchone()
    return str(row[0]) if row else ""
