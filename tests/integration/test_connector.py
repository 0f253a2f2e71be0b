"""The connector's life: one session per thread, closed in its transaction, evicted when broken, patient at connect."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fraud_daemons.errors import FatalFault, PoisonFault, TransientFault
from fraud_daemons.postgres_runtime import connecting
from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    counters,
    postgres_threadlocal_connection,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fraud_daemons.supervision.substrate.postgres import PostgresServer

pytestmark = pytest.mark.datastore
# ruff: noqa: PT012 - a scope's body and its failure belong together: what is tested is the scope around them

OPTIONS = ConnectOptions(application_name="connector_test")


@pytest.fixture
def source(database: str) -> Iterator[DsnSource]:
    """A DSN source of its own name, so that no test sees another's connections or credentials' past."""
    yield DsnSource(f"TEST_{uuid.uuid4().hex}", lambda: database)
    close_thread_connections()


@pytest.fixture
def before() -> dict[str, int]:
    return counters()


def sessions(database: str, columns: str = "pid") -> list[tuple[object, ...]]:
    """What the server says of our sessions, asked on a connection of another name."""
    with psycopg.connect(database, application_name="watcher") as watcher:
        return watcher.execute(
            f"select {columns} from pg_stat_activity where application_name = %s", (OPTIONS.application_name,)
        ).fetchall()


def grown(before: dict[str, int]) -> dict[str, int]:
    """The counters that moved, and by how much."""
    return {name: value - before[name] for name, value in counters().items() if value != before[name]}


def test_a_thousand_scopes_are_one_session(source: DsnSource, database: str, before: dict[str, int]) -> None:
    """The incident's own number: 1,000 small operations are one session on the server, not 1,000."""
    pids = set()
    for _ in range(1000):
        with postgres_threadlocal_connection(source, OPTIONS) as connection:
            pids.add(connection.info.backend_pid)
    assert len(pids) == 1
    assert sessions(database) == [(pids.pop(),)]
    assert grown(before) == {"opened": 1, "reused": 999}


def test_each_thread_has_its_own_session(source: DsnSource) -> None:
    """Two threads never share a connection."""
    pids = []

    def use() -> None:
        with postgres_threadlocal_connection(source, OPTIONS) as connection:
            pids.append(connection.info.backend_pid)
        close_thread_connections()

    use()
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(set(pids)) == 2


def test_other_options_are_another_session(source: DsnSource) -> None:
    """Options are part of the key: a connection with another statement timeout is not handed out."""
    with postgres_threadlocal_connection(source, OPTIONS) as first:
        pid = first.info.backend_pid
    with postgres_threadlocal_connection(source, ConnectOptions(statement_timeout=1.0)) as second:
        assert second.info.backend_pid != pid
        assert second.execute("show statement_timeout").fetchone() == ("1s",)


def test_success_commits(source: DsnSource, database: str) -> None:
    """What a scope did is durable when it ends, and no transaction stays open."""
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("create table t (n integer)")
        connection.execute("insert into t values (1)")
    assert sessions(database, "state") == [("idle",)]
    with psycopg.connect(database) as other:
        assert other.execute("select n from t").fetchall() == [(1,)]


def test_an_exception_rolls_back_and_leaves_nothing_open(source: DsnSource, database: str) -> None:
    """The caller's own exception passes through unchanged, its work is gone, the session is idle and used again."""
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("create table t (n integer)")
        pid = connection.info.backend_pid
    with pytest.raises(KeyError, match="mine"), postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("insert into t values (1)")
        raise KeyError("mine")
    assert sessions(database, "pid, state") == [(pid, "idle")]
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        assert connection.info.backend_pid == pid
        assert connection.execute("select count(*) from t").fetchone() == (0,)


def test_an_error_of_the_database_becomes_a_kind_of_fault_and_leaves_nothing_open(
    source: DsnSource, database: str
) -> None:
    """A value that does not fit is poison, a missing table fatal; after either the session is idle, not in transaction."""
    with pytest.raises(PoisonFault, match="22P02"), postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("select 'x'::integer")
    assert sessions(database, "state") == [("idle",)]
    with pytest.raises(FatalFault, match="42P01"), postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("select * from nowhere")
    assert sessions(database, "state") == [("idle",)]


def test_a_failed_transaction_swallowed_by_the_caller_is_not_committed_as_if_whole(
    source: DsnSource, database: str
) -> None:
    """COMMIT after a swallowed error would silently roll back; the scope says so instead, and nothing stays open."""
    with (
        pytest.raises(RuntimeError, match="nothing was committed"),
        postgres_threadlocal_connection(source, OPTIONS) as connection,
    ):
        connection.execute("create table t (n integer)")
        try:
            connection.execute("select 1/0")
        except psycopg.Error:
            pass
    assert sessions(database, "state") == [("idle",)]
    with psycopg.connect(database) as other:
        assert other.execute("select to_regclass('t')").fetchone() == (None,)


def test_a_terminated_session_is_evicted_and_replaced(source: DsnSource, database: str, before: dict[str, int]) -> None:
    """After pg_terminate_backend between scopes the next scope simply works, on a new session."""
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        old = connection.info.backend_pid
    terminate(database, old)
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        assert connection.info.backend_pid != old
        assert connection.execute("select 1").fetchone() == (1,)
    assert grown(before) == {"opened": 2, "evicted": 1}


def test_a_session_terminated_inside_a_scope_is_transient_and_dropped(source: DsnSource, database: str) -> None:
    """The scope in hand fails as transient, so the loop repeats the work; the next scope has a new session."""
    with pytest.raises(TransientFault), postgres_threadlocal_connection(source, OPTIONS) as connection:
        old = connection.info.backend_pid
        terminate(database, old)
        connection.execute("select 1")
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        assert connection.info.backend_pid != old
    assert len(sessions(database)) == 1


def test_an_old_session_is_retired(source: DsnSource, database: str) -> None:
    """A session past its age is replaced at the next scope, and the old one is closed on the server."""
    options = ConnectOptions(application_name=OPTIONS.application_name, age_max=0.0)
    pids = []
    for _ in range(2):
        with postgres_threadlocal_connection(source, options) as connection:
            pids.append(connection.info.backend_pid)
    assert pids[0] != pids[1]
    assert sessions(database) == [(pids[1],)]


def test_a_nested_scope_is_refused_unless_asked_for(source: DsnSource) -> None:
    """A scope inside a scope is a programming error by default, said by name; the outer one is rolled back."""
    with (
        pytest.raises(RuntimeError, match="already open"),
        postgres_threadlocal_connection(source, OPTIONS),
        postgres_threadlocal_connection(source, OPTIONS),
    ):
        pass
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_joined_scope_is_part_of_the_outer_transaction(source: DsnSource, database: str) -> None:
    """What a joined scope did stands or falls with the outer one."""
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("create table t (n integer)")
    with pytest.raises(KeyError), postgres_threadlocal_connection(source, OPTIONS):
        with postgres_threadlocal_connection(source, OPTIONS, nested="join") as inner:
            inner.execute("insert into t values (1)")
        raise KeyError("outer")
    with psycopg.connect(database) as other:
        assert other.execute("select count(*) from t").fetchone() == (0,)


def test_a_savepoint_scope_can_fail_alone(source: DsnSource, database: str) -> None:
    """A failed savepoint takes back its own work only; the outer scope commits the rest."""
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("create table t (n integer)")
        connection.execute("insert into t values (1)")
        with (
            pytest.raises(PoisonFault, match="22P02"),
            postgres_threadlocal_connection(source, OPTIONS, nested="savepoint") as inner,
        ):
            inner.execute("insert into t values (2)")
            inner.execute("select 'x'::integer")
        connection.execute("insert into t values (3)")
    with psycopg.connect(database) as other:
        assert other.execute("select n from t order by n").fetchall() == [(1,), (3,)]


def test_a_child_forgets_its_parents_connections(source: DsnSource, database: str) -> None:
    """After fork the child opens its own session and its exit does not close the parent's."""
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        mine = connection.info.backend_pid
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with postgres_threadlocal_connection(source, OPTIONS) as connection:
                os.write(write, str(connection.info.backend_pid).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    theirs = int(os.read(read, 100))
    os.close(read)
    assert theirs != mine
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        assert connection.info.backend_pid == mine
        assert connection.execute("select 1").fetchone() == (1,)


def test_connecting_waits_through_a_restart_of_the_server(short_dir: Path, before: dict[str, int]) -> None:
    """With the server away a scope is transient after three attempts; when it is back the same scope works, no restart."""
    from fraud_daemons.supervision.substrate.postgres import start_server

    dsn = ""
    source = DsnSource(f"TEST_{uuid.uuid4().hex}", lambda: dsn)
    with start_server(short_dir, connections_max=10) as server:
        dsn = server.dsn()
        with postgres_threadlocal_connection(source, OPTIONS) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(TransientFault, match="refused") as caught, postgres_threadlocal_connection(source, OPTIONS):
        pass
    assert caught.value.reason == "postgres: refused"
    assert grown(before) == {"opened": 1, "evicted": 1, "retried": 2, "waited": 1}
    with start_server(short_dir, password=server.password, connections_max=10):
        with postgres_threadlocal_connection(source, OPTIONS) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        close_thread_connections()


def test_the_attempts_of_one_connect_outlast_a_short_gap(
    source: DsnSource, database: str, monkeypatch: pytest.MonkeyPatch, before: dict[str, int]
) -> None:
    """A server that comes back between two attempts is not even noticed by the caller."""
    answers = iter([make_conninfo(database, host="/nowhere"), database])
    flaky = DsnSource(source.name, lambda: next(answers))
    with postgres_threadlocal_connection(flaky, OPTIONS) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert grown(before) == {"opened": 1, "retried": 1}


def test_a_wrong_password_is_patience_first_and_a_fault_of_configuration_after_the_grace(
    database: str, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential that never worked may just be rotating: transient within the grace, fatal and by name after it."""
    source = DsnSource(f"TEST_{uuid.uuid4().hex}", lambda: make_conninfo(database, user=login, password="wrong"))
    monkeypatch.setattr(connecting, "CREDENTIAL_GRACE_SECONDS", 60.0)
    with pytest.raises(TransientFault, match="28P01"), postgres_threadlocal_connection(source, OPTIONS):
        pass
    monkeypatch.setattr(connecting, "CREDENTIAL_GRACE_SECONDS", 0.0)
    with pytest.raises(FatalFault, match="28P01") as caught, postgres_threadlocal_connection(source, OPTIONS):
        pass
    assert caught.value.reason == f"config: postgres: 28P01 for {source.name}"
    assert "wrong" not in str(caught.value)


def test_a_rotated_password_is_picked_up_without_a_restart(
    database: str, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential that used to work stays transient however long it is refused; the new one is read at the next connect."""
    monkeypatch.setattr(connecting, "CREDENTIAL_GRACE_SECONDS", 0.0)
    password = "right"
    source = DsnSource(f"TEST_{uuid.uuid4().hex}", lambda: make_conninfo(database, user=login, password=password))
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        old = connection.info.backend_pid
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("alter role {} password 'rotated'").format(sql.Identifier(login)))
    terminate(database, old)
    for _ in range(2):
        with pytest.raises(TransientFault, match="28P01"), postgres_threadlocal_connection(source, OPTIONS):
            pass
    password = "rotated"
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        assert connection.execute("select current_user").fetchone() == (login,)


def test_a_credential_refused_on_an_open_connection_is_transient(source: DsnSource, database: str) -> None:
    """Whoever has logged in may be refused while roles are changed under it: it waits, and reads its credential again."""
    raising = "do $$ begin raise exception using errcode = '28000'; end $$"
    with pytest.raises(TransientFault) as caught, postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute(raising)
    assert caught.value.reason == "postgres: 28000"
    assert sessions(database) == []


def test_a_database_that_does_not_exist_is_fatal(source: DsnSource, database: str) -> None:
    """No retry can help against a wrong database name: said at once."""
    wrong = DsnSource(source.name, lambda: make_conninfo(database, dbname="nowhere"))
    with pytest.raises(FatalFault, match="3D000"), postgres_threadlocal_connection(wrong, OPTIONS):
        pass


def test_a_session_idle_in_transaction_is_ended_by_the_server_as_transient(source: DsnSource, database: str) -> None:
    """A scope that stalls longer than allowed loses its transaction; the next scope works."""
    options = ConnectOptions(application_name=OPTIONS.application_name, idle_in_transaction=0.1)
    with pytest.raises(TransientFault), postgres_threadlocal_connection(source, options) as connection:
        connection.execute("select 1")
        wait_until_gone(database, connection.info.backend_pid)
        connection.execute("select 1")
    with postgres_threadlocal_connection(source, options) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def terminate(database: str, pid: int) -> None:
    """End a session from outside and wait until it is gone."""
    with psycopg.connect(database, application_name="watcher", autocommit=True) as watcher:
        watcher.execute("select pg_terminate_backend(%s, 5000)", (pid,))


def wait_until_gone(database: str, pid: int) -> None:
    """Until the server no longer knows the session; it ends it by itself."""
    with psycopg.connect(database, application_name="watcher", autocommit=True) as watcher:
        for _ in range(500):
            if not watcher.execute("select 1 from pg_stat_activity where pid = %s", (pid,)).fetchone():
                return
            watcher.execute("select pg_sleep(0.02)")
    raise AssertionError(f"session {pid} is still there")


@pytest.mark.slow
def test_a_scope_costs_little_above_a_held_connection(postgres_server: PostgresServer) -> None:
    """The bar: 25 us of CPU for the borrowing, the look at the socket and the accounting. `benchmarks/connector_scope.py`
    measures it for publication, beside the pools one would use otherwise."""
    from benchmarks import connector_scope

    above = connector_scope.above_held(connector_scope.run(postgres_server.dsn(), rounds=6, scopes=200))
    close_thread_connections()
    low, _, _ = above[connector_scope.CONNECTOR]
    assert low <= connector_scope.BAR_MICROSECONDS, above
