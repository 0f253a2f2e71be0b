"""Rows on their way by COPY: what is sent, what is raised where, and what an error in between leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import UniqueViolation

from fraud_daemons.bus.port import OutRecord, TopicPartition
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.copying import copying
from fraud_daemons.postgres_runtime.provisioning import provision
from fraud_daemons.runtime.database import Database

COPY = b"copy numbers (number, word) from stdin (format binary)"
TYPES = ("int8", "text")


@pytest.fixture
def connected(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database) as connection:
        connection.execute("create table numbers (number bigint primary key, word text)")
        connection.commit()
        yield connection


def kept(connection: psycopg.Connection) -> list[tuple[int, str]]:
    return connection.execute("select number, word from numbers order by number").fetchall()


def test_the_rows_are_there_behind_the_block(connected: psycopg.Connection) -> None:
    """More than the driver sends at once, and none at all: then no statement is sent."""
    rows = [(number, "x" * 100) for number in range(2000)]
    with copying(connected, COPY, TYPES, rows):
        worked = sum(number for number, _ in rows)
    assert kept(connected) == rows
    assert worked == 1_999_000
    with copying(connected, b"no statement at all", TYPES, []):
        pass


def test_a_taken_key_is_raised_behind_the_block(connected: psycopg.Connection) -> None:
    """The block runs to its end; whoever uses what it made does so behind the `with`."""
    connected.execute("insert into numbers values (1, 'one')")
    connected.commit()
    ended = False
    with pytest.raises(UniqueViolation), copying(connected, COPY, TYPES, [(2, "two"), (1, "uno")]):
        ended = True
    connected.rollback()
    assert ended
    assert kept(connected) == [(1, "one")]


def test_an_error_in_the_block_cancels_the_copy(connected: psycopg.Connection) -> None:
    """It comes out as it is, and the session is good for the next transaction."""
    with pytest.raises(ZeroDivisionError), copying(connected, COPY, TYPES, [(1, "one")]):
        raise ZeroDivisionError
    connected.rollback()
    assert kept(connected) == []
    with copying(connected, COPY, TYPES, [(1, "one")]):
        pass
    assert kept(connected) == [(1, "one")]


def test_an_append_whose_block_fails_gives_its_positions_back(database: str) -> None:
    """Positions have no gap: the next append takes them."""
    provision(database, schemas=("bus",), passwords=None, application_name="test")
    bus = PostgresBus(
        Database(DsnSource(f"TEST {database}", lambda: database), ConnectOptions(application_name="test")).scope
    )
    bus.ensure_topics(["a"], partitions=1)
    records = [OutRecord("a", "k", f"e{number}", "run", b"{}") for number in range(3)]
    try:
        with pytest.raises(TransientFault), bus.scope() as connection, bus.log(connection).appending(records):
            raise TransientFault("in between", reason="test: in between")
        with bus.scope() as connection:
            with bus.log(connection).appending(records) as places:
                assert places == [(0, 0), (0, 1), (0, 2)], "known before they are written"
            read = bus.log(connection).read({TopicPartition("a", 0): 0}, limit=10)
        assert [(record.position, record.event_id) for record in read] == [(0, "e0"), (1, "e1"), (2, "e2")]
    finally:
        close_thread_connections()
