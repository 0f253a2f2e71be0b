"""Rows on their way by COPY: what is sent, what is raised where, and what an error in between leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from psycopg.errors import UniqueViolation

from fraud_daemons.bus.port import OutRecord, TopicPartition
from fraud_daemons.bus.postgres_log import PostgresBus, encoded
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.binary_rows import beginning, int4, int8, text, timestamptz
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.copying import copying
from fraud_daemons.postgres_runtime.provisioning import provision
from fraud_daemons.runtime.database import Database

COPY = b"copy numbers (number, word) from stdin (format binary)"


@pytest.fixture
def connected(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database) as connection:
        connection.execute("create table numbers (number bigint primary key, word text)")
        connection.commit()
        yield connection


def row(number: int, word: str) -> bytes:
    return beginning(2, int8(number)) + text(word)


def kept(connection: psycopg.Connection) -> list[tuple[int, str]]:
    return connection.execute("select number, word from numbers order by number").fetchall()


def test_the_rows_are_there_behind_the_block(connected: psycopg.Connection) -> None:
    """More than the driver sends at once, in parts, and no part at all."""
    rows = [(number, "x" * 100) for number in range(2000)]
    parts = (b"".join(row(*pair) for pair in rows[first : first + 300]) for first in range(0, 2000, 300))
    with copying(connected, COPY, parts):
        worked = sum(number for number, _ in rows)
    assert kept(connected) == rows
    assert worked == 1_999_000
    with copying(connected, COPY, []):
        pass
    assert kept(connected) == rows


def test_every_kind_of_field_arrives_as_it_was(connected: psycopg.Connection) -> None:
    """The edges of each, told back by the server."""
    connected.execute("create table fields (i integer, b bigint, t text, z timestamptz)")
    moments = [
        datetime(2026, 7, 18, 1, 2, 3, 4, tzinfo=UTC),
        datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ]
    rows = [
        (-(2**31), -(2**63), "", moments[0]),
        (2**31 - 1, 2**63 - 1, "é \t\\\n'\"😀", moments[1]),
        (0, 0, "x" * 100_000, moments[2]),
    ]
    part = b"".join(beginning(4, int4(i), int8(b)) + text(t) + timestamptz(z) for i, b, t, z in rows)
    with copying(connected, b"copy fields from stdin (format binary)", [part]):
        pass
    assert connected.execute("select * from fields").fetchall() == rows


def test_a_taken_key_is_raised_behind_the_block(connected: psycopg.Connection) -> None:
    """The block runs to its end; whoever uses what it made does so behind the `with`."""
    connected.execute("insert into numbers values (1, 'one')")
    connected.commit()
    ended = False
    with pytest.raises(UniqueViolation), copying(connected, COPY, [row(2, "two"), row(1, "uno")]):
        ended = True
    connected.rollback()
    assert ended
    assert kept(connected) == [(1, "one")]


def broken_off() -> Iterator[bytes]:
    yield row(1, "one")
    raise ZeroDivisionError


def test_an_error_in_the_block_or_of_the_iterator_cancels_the_copy(connected: psycopg.Connection) -> None:
    """It comes out as it is, and the session is good for the next transaction."""
    with pytest.raises(ZeroDivisionError), copying(connected, COPY, [row(1, "one")]):
        raise ZeroDivisionError
    connected.rollback()
    with pytest.raises(ZeroDivisionError), copying(connected, COPY, broken_off()):
        pass
    connected.rollback()
    assert kept(connected) == []
    with copying(connected, COPY, [row(1, "one")]):
        pass
    assert kept(connected) == [(1, "one")]


def append_and_fail(bus: PostgresBus, records: Sequence[OutRecord]) -> None:
    with bus.scope() as connection:
        log = bus.log(connection)
        with log.writing(encoded(records, log.reserve([("a", "k")] * len(records)))):
            raise TransientFault("in between", reason="test: in between")


def test_an_append_whose_block_fails_gives_its_positions_back(database: str) -> None:
    """Positions have no gap: the next append takes them."""
    provision(database, schemas=("bus",), passwords=None, application_name="test")
    bus = PostgresBus(
        Database(DsnSource(f"TEST {database}", lambda: database), ConnectOptions(application_name="test")).scope
    )
    bus.ensure_topics(["a"], partitions=1)
    records = [OutRecord("a", "k", f"e{number}", "run", b"{}") for number in range(3)]
    try:
        with pytest.raises(TransientFault):
            append_and_fail(bus, records)
        with bus.scope() as connection:
            log = bus.log(connection)
            places = log.reserve([("a", "k")] * 3)
            assert places == [(0, 0), (0, 1), (0, 2)], "known before they are written"
            with log.writing(encoded(records, places)):
                pass
            read = bus.log(connection).read({TopicPartition("a", 0): 0}, limit=10)
        assert [(record.position, record.event_id) for record in read] == [(0, "e0"), (1, "e1"), (2, "e2")]
    finally:
        close_thread_connections()
