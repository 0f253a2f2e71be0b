"""A server that is stopped, not dead: no scope waits for it longer than its deadline, and all go on when it thaws."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from fraud_daemons.clock import SystemClock
from fraud_daemons.errors import CommitAmbiguous, OverloadFault, TransientFault
from fraud_daemons.observability.heartbeat import HeartbeatFile, read_heartbeat
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.observability.pulse import heard_by
from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    postgres_threadlocal_connection,
)
from fraud_daemons.postgres_runtime.deadline import DeadlineConnection

if TYPE_CHECKING:
    from fraud_daemons.supervision.substrate.postgres import PostgresServer

pytestmark = pytest.mark.datastore
# ruff: noqa: PT012 - a scope's body and its failure belong together: what is tested is the scope around them

DEADLINE_SECONDS = 1.5
GRACE_SECONDS = 1.0
OPTIONS = ConnectOptions(
    application_name="frozen_test", connect_timeout=2, statement_timeout=1, client_deadline=DEADLINE_SECONDS
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of our own: freezing the shared one would stall everybody's test."""
    from fraud_daemons.supervision.substrate.postgres import start_server

    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with start_server(folder, connections_max=20) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def source(server: PostgresServer) -> Iterator[DsnSource]:
    yield DsnSource(f"TEST_{uuid.uuid4().hex}", server.dsn)
    close_thread_connections()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """SIGSTOP for the postmaster and all its children, SIGCONT at the end."""
    postmaster = _postmaster(server)
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    everybody = [postmaster, *map(int, children)]
    try:
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(everybody):
            os.kill(pid, signal.SIGCONT)


def _postmaster(server: PostgresServer) -> int:
    return int((server.directory / "postgres" / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def ask(source: DsnSource) -> object:
    with postgres_threadlocal_connection(source, OPTIONS) as connection:
        return connection.execute("select 1").fetchone()


def test_a_scope_on_a_frozen_server_ends_at_its_deadline_and_works_again_after_the_thaw(
    server: PostgresServer, source: DsnSource
) -> None:
    """Within deadline + 1 s it is transient, "postgres: no answer"; so is connecting anew; after SIGCONT it just works."""
    assert ask(source) == (1,)
    with frozen(server):
        with ends_within(DEADLINE_SECONDS + GRACE_SECONDS), pytest.raises(TransientFault) as caught:
            ask(source)
        assert caught.value.reason == "postgres: no answer"
        with ends_within(OPTIONS.connect_timeout + GRACE_SECONDS), pytest.raises(TransientFault) as caught:
            ask(source)
        assert caught.value.reason == "postgres: connect timeout"
    assert ask(source) == (1,)


def test_a_long_wait_for_a_frozen_server_keeps_the_heart_beating(
    server: PostgresServer, source: DsnSource, tmp_path: Path
) -> None:
    """A reader of whole runs may wait for a minute; the file beats once a second all the while, so no watchdog takes it for
    hung, and the answer is right after the thaw."""
    long = replace(OPTIONS, application_name="patient_test", statement_timeout=60, client_deadline=70)
    beat = HeartbeatFile(
        tmp_path / "b.json", worker="w", pack="p", process=identity_of(os.getpid()), clock=SystemClock(), version="test"
    )
    beat.beat("ready", steps=7)
    with heard_by(beat.repeat), postgres_threadlocal_connection(source, long) as connection:
        with frozen(server):
            threading.Timer(3.5, os.kill, (_postmaster(server), signal.SIGCONT)).start()
            backend = connection.info.backend_pid
            threading.Timer(3.5, os.kill, (backend, signal.SIGCONT)).start()
            begun = time.monotonic()
            assert connection.execute("select 1").fetchone() == (1,)
        waited = time.monotonic() - begun
    assert waited > 3.0
    last = read_heartbeat(tmp_path / "b.json")
    assert last.steps == 7
    assert last.beat_monotonic > begun + 2.0


def test_a_connect_that_timed_out_leaves_no_socket(server: PostgresServer, source: DsnSource) -> None:
    """Without any garbage collection: each would hold a slot of the server for a minute once it thaws, and those who come
    after the outage would be told that there are too many clients."""
    with pytest.raises(psycopg.errors.ConnectionTimeout), frozen(server):  # what the first one makes for good is made
        DeadlineConnection.connect(source.read(), connect_timeout=2)
    gc.collect()
    gc.disable()
    try:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with frozen(server):
            for _ in range(3):
                with pytest.raises(psycopg.errors.ConnectionTimeout):
                    DeadlineConnection.connect(source.read(), connect_timeout=2)
                assert len(list(Path("/proc/self/fd").iterdir())) == before
    finally:
        gc.enable()


def test_a_frozen_commit_is_ambiguous(server: PostgresServer, source: DsnSource) -> None:
    """Nobody knows whether a COMMIT without an answer took place, and the fault says so."""
    with ExitStack() as thaw, ends_within(DEADLINE_SECONDS + GRACE_SECONDS):
        with pytest.raises(CommitAmbiguous) as caught, postgres_threadlocal_connection(source, OPTIONS) as connection:
            connection.execute("create temporary table t ()")
            thaw.enter_context(frozen(server))
        assert caught.value.reason == "postgres: no answer"
    assert ask(source) == (1,)


def test_a_copy_into_a_frozen_server_ends_too(server: PostgresServer, source: DsnSource) -> None:
    """Sending waits as receiving does: a full socket buffer is no way around the deadline."""
    with ExitStack() as thaw, ends_within(DEADLINE_SECONDS + GRACE_SECONDS):
        with pytest.raises(TransientFault) as caught, postgres_threadlocal_connection(source, OPTIONS) as connection:
            connection.execute("create temporary table t (line text)")
            thaw.enter_context(frozen(server))
            with connection.cursor().copy("copy t from stdin") as copy:
                for _ in range(1000):
                    copy.write(b"x" * 65_536 + b"\n")
        assert caught.value.reason == "postgres: no answer"
    assert ask(source) == (1,)


def test_the_callers_own_error_on_a_frozen_server_comes_through(server: PostgresServer, source: DsnSource) -> None:
    """The rollback is given up at the deadline, and the caller's error is still what is raised."""
    with (
        ExitStack() as thaw,
        ends_within(DEADLINE_SECONDS + GRACE_SECONDS),
        pytest.raises(LookupError),
        postgres_threadlocal_connection(source, OPTIONS) as connection,
    ):
        connection.execute("select 1")
        thaw.enter_context(frozen(server))
        raise LookupError
    assert ask(source) == (1,)


def test_a_slow_statement_is_the_servers_to_refuse(source: DsnSource) -> None:
    """On a live server the statement timeout speaks first: overload, so that the batch is halved, not a lost link."""
    with pytest.raises(OverloadFault), postgres_threadlocal_connection(source, OPTIONS) as connection:
        connection.execute("select pg_sleep(5)")
