"""What one session learns of its server holds for its siblings, in whatever thread they are."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import (
    DsnSource,
    close_thread_connections,
    listening_connection,
    postgres_threadlocal_connection,
)
from tests.integration.connector_faults.asking import OPTIONS, ask, grown, source_of
from tests.proxied import proxied, through

pytestmark = pytest.mark.datastore
# ruff: noqa: PT012 - a scope's body and its failure belong together: what is tested is the scope around them


def test_no_error_reaches_a_scope_after_a_restart_with_idle_sessions(short_dir: Path, before: dict[str, int]) -> None:
    """Four idle sessions in this thread and one in another, all dead after the server's restart: every next scope works,
    the first within half a second, without a pause between the dead ones."""
    from fraud_daemons.supervision.substrate.postgres import start_server

    dsn = ""
    sources = [source_of(lambda: dsn) for _ in range(4)]
    password, first_borrows = None, []
    for round_ in range(3):
        with start_server(short_dir, password=password, connections_max=20) as server:
            dsn, password = server.dsn(), server.password
            begun = time.monotonic()
            ask(sources[0])
            if round_:
                first_borrows.append(time.monotonic() - begun)
            for source in sources[1:]:
                ask(source)
    assert min(first_borrows) <= 0.5
    assert grown(before) == {"opened": 12, "evicted": 8}
    close_thread_connections()


@pytest.mark.parametrize(
    ("end", "code"),
    [("select pg_terminate_backend(pg_backend_pid())", "57P01"), ("insert into effects values (7)", "25006")],
)
def test_what_one_session_learns_of_the_server_outdates_its_siblings(
    database: str, end: str, code: str, before: dict[str, int]
) -> None:
    """After 57P01 or 25006 no session of the process to that server is used again, in whatever thread it is; those to
    another server stay."""
    dsn = database
    sources = [source_of(lambda: dsn) for _ in range(2)]
    elsewhere = source_of(lambda: through(tunnel, database))
    with proxied(database) as tunnel, Neighbour(sources[0]) as neighbour:
        with postgres_threadlocal_connection(sources[0], OPTIONS) as connection:
            connection.execute("create table effects (id integer primary key)")
        pids = [ask(source) for source in (*sources, elsewhere)]
        theirs = neighbour.ask()
        with (
            pytest.raises(TransientFault, match=code),
            postgres_threadlocal_connection(sources[0], OPTIONS) as connection,
        ):
            if code == "25006":
                connection.execute("set transaction read only")
            connection.execute(end)
        assert listening_connection(sources[1], OPTIONS) is None
        after = [ask(source) for source in (*sources, elsewhere)]
        assert after[0] != pids[0]
        assert after[1] != pids[1]
        assert after[2] == pids[2]
        assert neighbour.ask() != theirs
        moved = grown(before)
        assert (moved["evicted"], moved["siblings_evicted"]) == (3, 2)
        close_thread_connections()


class Neighbour:
    """Another thread with a session of its own, asked one scope at a time."""

    def __init__(self, source: DsnSource) -> None:
        self._source = source
        self._wanted, self._answered = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._pid = 0
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wanted.release()
        self._thread.join(10)

    def ask(self) -> int:
        self._wanted.release()
        assert self._answered.acquire(timeout=10)
        return self._pid

    def _live(self) -> None:
        while self._wanted.acquire(timeout=30) and not self._ended:
            self._pid = ask(self._source)
            self._answered.release()
        close_thread_connections()
