"""The embedded bus: an append-only table in PostgreSQL, one head row per (topic, partition).

The append comes last in its transaction and locks heads in sorted order. Because a head stays locked until commit,
positions become visible in order and without gaps, so readers need no other mechanism. NOTIFY is sent only when a
topic was idle for 50 ms, which is at most 20 times a second per topic: in every commit it cut 5,088 commits/s to 1,494.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from fraud_daemons.bus.port import Log, OutRecord, Record, TopicPartition, check_no_gap, partition_of
from fraud_daemons.errors import FatalFault
from fraud_daemons.postgres_runtime.binary_rows import beginning, int4, int8, length, text
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.copying import copying
from fraud_daemons.postgres_runtime.statements import load

Place = tuple[int, int]
"""(partition, position)."""

CHANNEL_PREFIX = "bus_"
_SQL = "fraud_daemons.bus.sql"
_COPY = (
    b'copy bus.log (topic, "partition", platform_run_id, "position", event_id, record_key, body)'
    b" from stdin (format binary)"
)


def channel_of(topic: str) -> str:
    """The notification channel of a topic."""
    return CHANNEL_PREFIX + topic.replace(".", "_")


class PostgresLog:
    """The log inside a transaction that the caller has open on `connection`."""

    def __init__(self, connection: Connection, *, partitions: Mapping[str, int]) -> None:
        self._connection = connection
        self._partitions = partitions

    def append(
        self, records: Sequence[OutRecord], *, producer: str | None = None, sequences: Sequence[int] | None = None
    ) -> list[tuple[int, int] | None]:
        targets = self._targets(records)
        taken: set[int] = set()
        if producer is not None and sequences is not None and records:
            taken = self._claim_sequences(producer, targets, sequences)
        new = [index for index in range(len(records)) if index not in taken]
        places = self._places([targets[index] for index in new])
        with self.writing(encoded([records[index] for index in new], places)):
            pass
        placed = dict(zip(new, places, strict=True))
        return [placed.get(index) for index in range(len(records))]

    def reserve(self, topics_and_keys: Sequence[tuple[str, str]]) -> list[Place]:
        """Where records of these topics and keys go, before they are there: `writing` brings them, in this transaction.

        The key of a record may be told later where its topic has one partition. Raises FatalFault for an unknown topic.
        """
        return self._places(self._targets(topics_and_keys))

    @contextmanager
    def writing(self, rows: bytes) -> Iterator[None]:
        """Write records that were `encoded` with the places reserved for them; the server does it while the block runs."""
        if not rows:
            yield
            return
        with copying(self._connection, _COPY, [rows]):
            yield

    def undivided(self, topics: Collection[str]) -> bool:
        """Whether each of the topics has one partition, so that a record's place is known without its key."""
        return all(self._only(topic) for topic in topics)

    def partitions_of(self, topic: str) -> int:
        """How many a topic has. Raises FatalFault for an unknown one."""
        self._only(topic)
        return self._partitions[topic]

    def _places(self, targets: Sequence[TopicPartition]) -> list[Place]:
        next_position = self._advance(Counter(targets)) if targets else {}
        places = []
        for target in targets:
            position = next_position[target]
            next_position[target] = position + 1
            places.append((target.partition, position))
        return places

    def read(self, positions: Mapping[TopicPartition, int], *, limit: int) -> list[Record]:
        where = sorted(positions)
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(
                load(_SQL, "read.sql"),
                {
                    "topics": [w.topic for w in where],
                    "partitions": [w.partition for w in where],
                    "positions": [positions[w] for w in where],
                    "limit": limit,
                },
            )
            records = [Record(*row) for row in cursor.fetchall()]
        check_no_gap(records, positions)
        return records

    def heads(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        rows = self._connection.execute(
            'select topic, "partition", next_position from bus.heads where topic = any(%s)', (list(topics),)
        )
        return {TopicPartition(topic, partition): position for topic, partition, position in rows}

    def beginnings(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        rows = self._connection.execute(
            'select topic, "partition", coalesce(first_position, 0) from bus.heads left join bus.beginnings'
            ' using (topic, "partition") where topic = any(%s)',
            (list(topics),),
        )
        return {TopicPartition(topic, partition): position for topic, partition, position in rows}

    def _targets(self, records: Sequence[OutRecord | tuple[str, str]]) -> list[TopicPartition]:
        """Where each record goes, by the topic and the key it begins with."""
        whole: dict[str, TopicPartition | None] = {topic: self._only(topic) for topic in {r[0] for r in records}}
        return [
            whole[topic] or TopicPartition(topic, partition_of(key, self._partitions[topic]))
            for topic, key, *_ in records
        ]

    def _only(self, topic: str) -> TopicPartition | None:
        """The partition of a topic that has one; None when the key chooses."""
        partitions = self._partitions.get(topic)
        if partitions is None:
            raise FatalFault(f"there is no topic {topic!r}", reason=f"bus: no topic {topic}")
        return TopicPartition(topic, 0) if partitions == 1 else None

    def _advance(self, counts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        where = sorted(counts)
        rows = self._connection.execute(
            load(_SQL, "advance_heads.sql"),
            {
                "topics": [w.topic for w in where],
                "partitions": [w.partition for w in where],
                "records": [counts[w] for w in where],
            },
        ).fetchall()
        if len(rows) != len(where):
            missing = set(where) - {TopicPartition(row[0], row[1]) for row in rows}
            raise FatalFault(f"no head row for {sorted(missing)}", reason="bus: topics missing; run platform up")
        idle = sorted({channel_of(topic) for topic, _, _, was_idle in rows if was_idle})
        if idle:
            self._connection.execute("select pg_notify(channel, '') from unnest(%s::text[]) as c(channel)", (idle,))
        return {TopicPartition(topic, partition): base for topic, partition, base, _ in rows}

    def _claim_sequences(self, producer: str, targets: Sequence[TopicPartition], sequences: Sequence[int]) -> set[int]:
        """Indexes of records whose sequence was already taken; moves the producer's rows on for the others."""
        where = sorted(set(targets))
        arrays = ([w.topic for w in where], [w.partition for w in where])
        self._connection.execute(
            'insert into bus.producers (producer, topic, "partition", last_sequence)'
            " select %s, topic, partition, -1 from unnest(%s::text[], %s::integer[]) as w(topic, partition)"
            " on conflict do nothing",
            (producer, *arrays),
        )
        rows = self._connection.execute(
            'select topic, "partition", last_sequence from bus.producers join unnest(%s::text[], %s::integer[])'
            ' as w(topic, "partition") using (topic, "partition") where producer = %s'
            ' order by topic, "partition" for update of producers',
            (*arrays, producer),
        )
        last = {TopicPartition(topic, partition): sequence for topic, partition, sequence in rows}
        taken = {index for index, target in enumerate(targets) if sequences[index] <= last[target]}
        for index, target in enumerate(targets):
            if index not in taken:
                last[target] = max(last[target], sequences[index])
        self._connection.execute(
            "update bus.producers p set last_sequence = w.sequence from unnest(%s::text[], %s::integer[], %s::bigint[])"
            ' as w(topic, "partition", sequence) where p.producer = %s and p.topic = w.topic and p."partition" = w."partition"',
            (*arrays, [last[w] for w in where], producer),
        )
        return taken


def encoded(records: Sequence[OutRecord], places: Sequence[Place]) -> bytes:
    """Records at their places, as `PostgresLog.writing` takes them."""
    beginnings: dict[tuple[str, int, str], bytes] = {}
    parts: list[bytes] = []
    for (topic, key, event_id, run, body), (partition, position) in zip(records, places, strict=True):
        where = topic, partition, run
        begins = beginnings.get(where)
        if begins is None:
            begins = beginnings[where] = beginning(7, text(topic), int4(partition), text(run))
        parts += begins, int8(position), text(event_id), text(key), length(len(body)), body
    return b"".join(parts)


class PostgresBus:
    """The embedded bus over any way to borrow a connection for one transaction."""

    def __init__(self, scope: Callable[[], AbstractContextManager[Connection]]) -> None:
        self.scope = scope
        self._partitions: dict[str, int] = {}

    @contextmanager
    def transaction(self) -> Iterator[Log]:
        with self.scope() as connection:
            yield self.log(connection)

    def log(self, connection: Connection) -> PostgresLog:
        """The log on a connection to the bus's own server, inside the caller's transaction: the outbox *is* the log."""
        return PostgresLog(connection, partitions=self.partitions(connection))

    def partitions(self, connection: Connection) -> Mapping[str, int]:
        """Partitions per topic, read once: a topic keeps the partitions it was made with."""
        if not self._partitions:
            rows = connection.execute("select topic, count(*) from bus.heads group by topic")
            self._partitions = {str(topic): int(count) for topic, count in rows}
        return self._partitions

    def ensure_topics(self, topics: Sequence[str], *, partitions: int) -> None:
        with self.scope() as connection:
            connection.execute(
                'insert into bus.heads (topic, "partition") select t, p from unnest(%s::text[]) as t'
                " cross join generate_series(0, %s - 1) as p where t not in (select topic from bus.heads)"
                " on conflict do nothing",
                (list(topics), partitions),
            )
        self._partitions = {}
