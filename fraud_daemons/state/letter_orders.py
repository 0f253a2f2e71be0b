"""Orders of people about dead letters: redrive or skip, who and why, and how each ended. A letter has at most one open.

The command gives an order; the letter's own worker carries a redrive out (`runtime.redriving`). Both lock the letter
first, so a letter is never redriven and skipped at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row

from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.state.letters import LetterAddress

REDRIVES_MAX: Final = 5
"""Orders to redrive one letter; a record that failed as often needs another mend than one more try."""

_LETTER: Final = 'worker = %s and topic = %s and "partition" = %s and "position" = %s'


@dataclass(frozen=True)
class Order:
    """One order; `ordinal` counts those of its letter from 1."""

    ordinal: int
    kind: str
    state: str
    detail: str
    ordered_by: str
    reason: str


class OrderRefused(Exception):
    """Why nothing was ordered; nothing was changed."""


@dataclass(frozen=True)
class OpenRedrive:
    """What a worker has to take again."""

    address: LetterAddress
    ordinal: int
    fields: tuple[str, int, int, str, str, str, bytes, float]
    """of the record, as `bus.port.Record` has them; its time is that of the letter"""


def order(connection: Connection, address: LetterAddress, kind: str, *, by: str, reason: str, at: datetime) -> Order:
    """Give an order in the caller's transaction; an open redrive of the same letter is joined, a skip is done at once.

    Raises OrderRefused when there is no such letter or it is beyond orders."""
    row = connection.execute(f"select state from dead_letters.letters where {_LETTER} for update", address).fetchone()
    if row is None:
        raise OrderRefused("there is no such letter")
    earlier = orders_of(connection, address)
    if earlier and earlier[-1].state == "OPEN" and kind == "REDRIVE":
        return earlier[-1]
    _refuse(row[0], earlier, kind)
    given = Order(len(earlier) + 1, kind, "OPEN" if kind == "REDRIVE" else "DONE", "", by, reason)
    connection.execute(
        'insert into dead_letters.orders (worker, topic, "partition", "position", ordinal, kind, ordered_by, reason,'
        " ordered_at, state, ended_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (*address, given.ordinal, kind, by, reason, at, given.state, None if given.state == "OPEN" else at),
    )
    if kind == "SKIP":
        connection.execute(f"update dead_letters.letters set state = 'SKIPPED' where {_LETTER}", address)
    return given


def _refuse(state: str, earlier: list[Order], kind: str) -> None:
    if state == "REDRIVEN":
        raise OrderRefused(f"it was redriven already, by {earlier[-1].ordered_by if earlier else 'hand'}")
    if earlier and earlier[-1].state == "OPEN":
        raise OrderRefused(f"a redrive by {earlier[-1].ordered_by} is under way; wait for its end")
    if kind == "SKIP" and state == "SKIPPED":
        raise OrderRefused(f"it was skipped already, by {earlier[-1].ordered_by if earlier else 'hand'}")
    redrives = sum(each.kind == "REDRIVE" for each in earlier)
    if kind == "REDRIVE" and redrives >= REDRIVES_MAX:
        raise OrderRefused(f"it was redriven {redrives} times and failed each time; mend its cause, or skip it")


def orders_of(connection: Connection, address: LetterAddress) -> list[Order]:
    """Every order about a letter, in the order in which they were given."""
    rows = connection.execute(
        f"select ordinal, kind, state, detail, ordered_by, reason from dead_letters.orders where {_LETTER} order by ordinal",
        address,
    )
    return [Order(*row) for row in rows]


def shown_orders(connection: Connection, address: LetterAddress) -> list[dict[str, Any]]:
    """The same with their times, for a person."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "select ordinal, kind, state, ordered_by, reason, detail, ordered_at, ended_at from dead_letters.orders"
            f" where {_LETTER} order by ordinal",
            address,
        )
        return cursor.fetchall()


def next_open(connection: Connection, worker: str) -> OpenRedrive | None:
    """The oldest open redrive of a worker's letters, locked for this transaction."""
    row = connection.execute(
        'select o.worker, o.topic, o."partition", o."position", o.ordinal, l.record_key, l.event_id, l.platform_run_id,'
        " l.body, extract(epoch from l.dead_at)::float8 from dead_letters.orders o"
        ' join dead_letters.letters l using (worker, topic, "partition", "position")'
        " where o.worker = %s and o.state = 'OPEN' order by o.ordered_at, o.ordinal limit 1 for update of o, l",
        (worker,),
    ).fetchone()
    if row is None:
        return None
    address, (ordinal, key, event_id, run, body, at) = LetterAddress(*row[:4]), row[4:]
    fields = (address.topic, address.partition, address.position, key, event_id, run, bytes(body), at)
    return OpenRedrive(address, ordinal, fields)


def end(connection: Connection, redrive: OpenRedrive, *, failed: str | None, at: datetime) -> None:
    """The order's end: done, and the letter is REDRIVEN - or failed with its reason, and the letter stays."""
    connection.execute(
        f"update dead_letters.orders set state = %s, detail = %s, ended_at = %s where {_LETTER} and ordinal = %s"
        " and state = 'OPEN'",
        ("DONE" if failed is None else "FAILED", (failed or "")[:2000], at, *redrive.address, redrive.ordinal),
    )
    if failed is None:
        connection.execute(f"update dead_letters.letters set state = 'REDRIVEN' where {_LETTER}", redrive.address)
