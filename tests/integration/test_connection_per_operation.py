"""The policy of the incident, as the drill uses it: honest transactions, and a connection for each of them."""

from __future__ import annotations

import psycopg
import pytest

from fraud_daemons.errors import PoisonFault, TransientFault
from fraud_daemons.postgres_runtime import connection_per_operation
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.runtime.database import Database

OPERATIONS = 7


@pytest.fixture
def old(database: str) -> Database:
    """The test's database, reached as before the incident."""
    source = DsnSource(f"TEST {database}", lambda: database)
    return Database(source, ConnectOptions(), borrow=connection_per_operation.connection_per_operation)


def test_every_operation_opens_a_connection(old: Database) -> None:
    """That is the whole difference, and it is counted under the connector's names."""
    before = connection_per_operation.figures()
    pids = set()
    for _ in range(OPERATIONS):
        with old.scope() as connection:
            pids.add(connection.info.backend_pid)
    after = connection_per_operation.figures()
    assert len(pids) == after["opened"] - before["opened"] == OPERATIONS
    assert after["reused"] == 0
    assert old.idle_connection() is None


def test_a_scope_commits_or_rolls_back(old: Database) -> None:
    """Nothing else than the number of connections is wrong with it: success commits, a fault rolls back and is translated."""
    with old.scope() as connection:
        connection.execute("create table scratch (n integer primary key)")
        connection.execute("insert into scratch values (1)")
        with old.scope(nested="join") as inner:
            assert inner is connection
    with pytest.raises(PoisonFault), old.scope() as connection:  # noqa: PT012 - the scope is what is tested
        connection.execute("insert into scratch values (2)")
        connection.execute("insert into scratch values (1)")
    with old.scope() as connection:
        assert connection.execute("select n from scratch").fetchall() == [(1,)]


def test_the_first_refused_connect_is_the_fault(capfd: pytest.CaptureFixture[str]) -> None:
    """No second attempt, and the driver's own words on stderr."""
    dead = Database(
        DsnSource("DEAD", lambda: "host=127.0.0.1 port=1 dbname=x user=y"), ConnectOptions(),
        borrow=connection_per_operation.connection_per_operation,
    )  # fmt: skip
    with pytest.raises(TransientFault) as fault, dead.scope():
        pass
    assert isinstance(fault.value.__cause__, psycopg.OperationalError)
    assert "psycopg.OperationalError" in capfd.readouterr().err
