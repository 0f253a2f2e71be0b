"""Checkpoints in a run-scoped SQLite file, for a worker whose output is not PostgreSQL.

A hint and never ahead of the worker's own ledger: losing the file costs repeated, absorbed work and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from fraud_daemons.checkpoints.port import Claim, Move, Subscription, another_copy
from fraud_daemons.errors import TransientFault

FILE_NAME = "consumer_checkpoints.sqlite"
BUSY_TIMEOUT_SECONDS = 5.0

_SCHEMA = """
create table if not exists positions (
  worker text not null, topic text not null, "partition" integer not null,
  "position" integer not null default 0, epoch integer not null default 0,
  primary key (worker, topic, "partition")
) without rowid
"""


class SqliteCheckpoints:
    """Checkpoints in `path`; every call is its own durable transaction. Raises TransientFault while the file is busy."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.execute(_SCHEMA)
        path.chmod(0o600)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def claim(self, worker: str, subscriptions: Sequence[Subscription]) -> Claim:
        with _Transaction(self._connection):
            self._connection.executemany(
                'insert or ignore into positions (worker, topic, "partition") values (?, ?, ?)',
                [(worker, topic, partition) for topic, partition in subscriptions],
            )
            self._connection.execute(
                "update positions set epoch = 1 + (select max(epoch) from positions where worker = ?) where worker = ?",
                (worker, worker),
            )
            rows = self._rows(worker)
        wanted = set(subscriptions)
        epoch = max((row[3] for row in rows), default=1)
        return Claim(worker=worker, epoch=epoch, positions={(t, p): at for t, p, at, _ in rows if (t, p) in wanted})

    def positions(self, claim: Claim) -> dict[Subscription, int]:
        found = {(t, p): at for t, p, at, epoch in self._rows(claim.worker) if epoch == claim.epoch}
        if not claim.positions.keys() <= found.keys():
            raise another_copy(claim)
        return {subscription: found[subscription] for subscription in claim.positions}

    def advance(self, claim: Claim, moves: Mapping[Subscription, Move]) -> None:
        with _Transaction(self._connection):
            for (topic, partition), (origin, target) in sorted(moves.items()):
                cursor = self._connection.execute(
                    'update positions set "position" = ? where worker = ? and epoch = ? and topic = ?'
                    ' and "partition" = ? and "position" = ?',
                    (target, claim.worker, claim.epoch, topic, partition, origin),
                )
                if cursor.rowcount != 1:
                    raise another_copy(claim)

    def _rows(self, worker: str) -> list[tuple[str, int, int, int]]:
        return self._connection.execute(
            'select topic, "partition", "position", epoch from positions where worker = ?', (worker,)
        ).fetchall()


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, rolled back on any error; a busy file is a transient fault."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        try:
            self._connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise TransientFault(f"the checkpoint file is busy: {error}", reason="sqlite: busy") from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("commit" if kind is None else "rollback")
