"""Checkpoints in PostgreSQL: inside the transaction of the state they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fraud_daemons.checkpoints.port import Claim, Move, Subscription, another_copy
from fraud_daemons.postgres_runtime.connector import Connection


class PostgresCheckpoints:
    """Checkpoints on a connection whose transaction the caller has open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, worker: str, subscriptions: Sequence[Subscription]) -> Claim:
        topics, partitions = [t for t, _ in subscriptions], [p for _, p in subscriptions]
        self._connection.execute(
            'insert into checkpoints.positions (worker, topic, "partition") select %s, topic, partition'
            " from unnest(%s::text[], %s::integer[]) as s(topic, partition) order by topic, partition on conflict do nothing",
            (worker, topics, partitions),
        )
        # one epoch for all rows of the worker, also those it does not subscribe to any more
        self._connection.execute(
            "update checkpoints.positions set epoch = 1 + (select max(epoch) from checkpoints.positions where worker = %s)"
            " where worker = %s",
            (worker, worker),
        )
        rows = self._connection.execute(
            'select topic, "partition", "position", epoch from checkpoints.positions where worker = %s', (worker,)
        ).fetchall()
        wanted = set(subscriptions)
        epoch = max((row[3] for row in rows), default=1)
        return Claim(worker=worker, epoch=epoch, positions={(t, p): at for t, p, at, _ in rows if (t, p) in wanted})

    def positions(self, claim: Claim) -> dict[Subscription, int]:
        rows = self._connection.execute(
            'select topic, "partition", "position" from checkpoints.positions where worker = %s and epoch = %s',
            (claim.worker, claim.epoch),
        )
        found = {(topic, partition): position for topic, partition, position in rows}
        if not claim.positions.keys() <= found.keys():
            raise another_copy(claim)
        return {subscription: found[subscription] for subscription in claim.positions}

    def advance(self, claim: Claim, moves: Mapping[Subscription, Move]) -> None:
        if not moves:
            return
        where = sorted(moves)
        cursor = self._connection.execute(
            'update checkpoints.positions c set "position" = m.target'
            " from unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[]) as m(topic, partition, origin, target)"
            ' where c.worker = %s and c.epoch = %s and c.topic = m.topic and c."partition" = m.partition'
            ' and c."position" = m.origin',
            (
                [topic for topic, _ in where],
                [partition for _, partition in where],
                [moves[w][0] for w in where],
                [moves[w][1] for w in where],
                claim.worker,
                claim.epoch,
            ),
        )
        if cursor.rowcount != len(where):
            raise another_copy(claim)
