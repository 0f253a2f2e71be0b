"""The proxy that plays the network: what passes through it untouched, and that each of its faults really strikes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from tests.proxied import proxied, through

if TYPE_CHECKING:
    from fraud_daemons.supervision.substrate.postgres import PostgresServer

pytestmark = pytest.mark.datastore


@pytest.fixture
def proxy(postgres_server: PostgresServer, database: str) -> Iterator[WireProxy]:
    with proxied(database) as running:
        yield running


@pytest.fixture
def dsn(proxy: WireProxy, database: str) -> str:
    return make_conninfo(through(proxy, database), connect_timeout=2)


@pytest.fixture
def direct(database: str) -> Iterator[psycopg.Connection]:
    """A session past the proxy, with a table t."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create table t (n integer)")
        yield connection


def test_what_passes_is_untouched(proxy: WireProxy, dsn: str) -> None:
    """Eight megabytes there and back by COPY in one session arrive to the byte, and the proxy saw its one COMMIT."""
    lines = [f"{n} {'x' * 990}" for n in range(8000)]
    with psycopg.connect(dsn) as connection:
        connection.execute("create temporary table big (line text)")
        with connection.cursor().copy("copy big from stdin") as copy:
            copy.write("\n".join(lines).encode() + b"\n")
        with connection.cursor().copy("copy big to stdout") as copy:
            back = b"".join(copy).decode().splitlines()
    assert back == lines
    assert proxy.figures["commits"] == 1
    assert proxy.figures["accepted"] == 1
    wait_for(lambda: proxy.links == 0)


def test_the_answer_to_commit_is_lost_after_the_server_has_committed(
    proxy: WireProxy, dsn: str, direct: psycopg.Connection
) -> None:
    """The client sees a broken connection at COMMIT, and the row is there."""
    with psycopg.connect(dsn) as connection:
        connection.execute("insert into t values (1)")
        proxy.arm(Strike.COMMIT_ANSWER)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert connection.broken
    assert direct.execute("select n from t").fetchall() == [(1,)]
    assert proxy.figures["commit_answers_lost"] == 1


def test_a_lost_commit_is_rolled_back(proxy: WireProxy, dsn: str, direct: psycopg.Connection) -> None:
    """To the client it looks the same, and the row is not there."""
    with psycopg.connect(dsn) as connection:
        connection.execute("insert into t values (1)")
        proxy.arm(Strike.COMMIT)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert connection.broken
    wait_for(lambda: not direct.execute("select 1 from pg_locks where relation = 't'::regclass").fetchall())
    assert direct.execute("select n from t").fetchall() == []
    assert proxy.figures["commits_lost"] == 1


def test_a_statement_is_reset_in_the_middle_of_its_answer(proxy: WireProxy, dsn: str) -> None:
    """A part of the answer arrives and then the connection breaks; the next connection is well."""
    with psycopg.connect(dsn) as connection:
        proxy.arm(Strike.STATEMENT)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select repeat('x', 100000)")
        assert connection.broken
    assert proxy.figures["statements_reset"] == 1
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_every_open_link_is_ended_and_new_ones_are_taken(proxy: WireProxy, dsn: str, fault: str) -> None:
    """Both kinds of ending meet all connections at once and no later one."""
    open_ones = [psycopg.connect(dsn, autocommit=True) for _ in range(3)]
    getattr(proxy, fault)()
    for connection in open_ones:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
        connection.close()
    assert proxy.figures[fault] == 3
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_stalled_link_answers_nothing_and_goes_on_where_it_was(proxy: WireProxy, dsn: str) -> None:
    """No byte passes and no error comes until the link is back; then the answer arrives."""
    answers = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        proxy.stall()
        asking = threading.Thread(target=lambda: answers.append(connection.execute("select 1").fetchone()))
        asking.start()
        wait_for(lambda: proxy.figures["held_back"] == 1)
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(dsn)
        assert answers == []
        proxy.pass_on()
        asking.join(10)
        assert answers == [(1,)]


def test_a_refusing_proxy_refuses_and_keeps_its_port(proxy: WireProxy, dsn: str) -> None:
    """Connections break, new ones are refused by the kernel, and the same port listens again."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(dsn)
    proxy.pass_on()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_slow_link_takes_its_time(proxy: WireProxy, dsn: str) -> None:
    """At 100,000 bytes a second an answer of 50,000 takes half a second."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        proxy.slow(bytes_per_second=100_000)
        begun = time.monotonic()
        connection.execute("select repeat('x', 50000)")
        assert time.monotonic() - begun > 0.45
    assert proxy.figures["slowed"] > 0


def test_another_protocol_passes_and_cannot_be_struck() -> None:
    """Bytes that are not PostgreSQL's go through unread; a strike, which would never come, is refused."""
    import socketserver

    class Shout(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(self.request.recv(100).upper())

    with socketserver.TCPServer(("127.0.0.1", 0), Shout) as server:
        threading.Thread(target=server.handle_request).start()
        with WireProxy(("127.0.0.1", server.server_address[1]), postgres=False) as proxy:
            import socket

            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"
            with pytest.raises(ValueError, match="something else"):
                proxy.arm(Strike.COMMIT)


def wait_for(condition: object) -> None:
    ends = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.01)
