"""Dead letters as an operator reads them; they are written by `bus.dead_letters`, beside the state of their worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from psycopg.rows import dict_row

from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.every_server import every_server

_SQL = "fraud_daemons.state.sql"
_ORDER: Final = ("dead_at", "worker", "topic", "partition", "position")


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
    at: ConnectionOf,
    platform_run_id: str,
    *,
    worker: str | None,
    state: str | None = None,
    after: Mapping[str, Any] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """A page of a run's letters from every server, oldest first, behind the letter `after`; without their bodies."""
    place = {name: after[name] if after else None for name in _ORDER}
    found: list[dict[str, Any]] = []
    for connection in every_server(at):
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                load(_SQL, "letters_list.sql"),
                {"run": platform_run_id, "only": worker, "state": state, "limit": limit, **place},
            )
            found += cursor.fetchall()
    return sorted(found, key=lambda row: [row[name] for name in _ORDER])[:limit]


def find_letter(at: ConnectionOf, address: LetterAddress) -> dict[str, Any] | None:
    """One letter with its body, on whatever server its worker has its tables."""
    return next(filter(None, (letter_at(connection, address) for connection in every_server(at))), None)


def server_of(at: ConnectionOf, address: LetterAddress) -> Connection:
    """The connection to the server that holds a letter. Raises LookupError when none does."""
    for connection in every_server(at):
        if letter_at(connection, address) is not None:
            return connection
    raise LookupError(str(address))


def letter_at(connection: Connection, address: LetterAddress) -> dict[str, Any] | None:
    """One letter with its body on one server, whatever its run."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            'select worker, topic, "partition", "position", platform_run_id, event_id, record_key, reason, detail, state,'
            " dead_at, body from dead_letters.letters"
            ' where worker = %s and topic = %s and "partition" = %s and "position" = %s',
            address,
        )
        return cursor.fetchone()
