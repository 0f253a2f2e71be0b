"""Dead letters as an operator reads them; they are written by `bus.dead_letters`, beside the state of their worker."""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg.rows import dict_row

from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"


class LetterAddress(NamedTuple):
    """What names a letter: which worker could not pass which record."""

    worker: str
    topic: str
    partition: int
    position: int

    def __str__(self) -> str:
        return ":".join(str(part) for part in self)

    @classmethod
    def parse(cls, text: str) -> LetterAddress:
        """Back from `worker:topic:partition:position`. Raises ValueError."""
        worker, topic, partition, position = text.split(":")
        return cls(worker, topic, int(partition), int(position))


def list_letters(
    connection: Connection, platform_run_id: str, *, worker: str | None, after: LetterAddress | None, limit: int
) -> list[dict[str, Any]]:
    """A page of a run's letters, oldest first, behind `after`; without their bodies."""
    behind = after or LetterAddress("", "", 0, 0)
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            load(_SQL, "letters_list.sql"),
            {"run": platform_run_id, "only": worker, "limit": limit, "paged": after is not None, **behind._asdict()},
        )
        return cursor.fetchall()


def letter_at(connection: Connection, address: LetterAddress) -> dict[str, Any] | None:
    """One letter with its body, whatever its run."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            'select worker, topic, "partition", "position", platform_run_id, event_id, record_key, reason, detail, state,'
            " dead_at, body from dead_letters.letters"
            ' where worker = %s and topic = %s and "partition" = %s and "position" = %s',
            address,
        )
        return cursor.fetchone()
