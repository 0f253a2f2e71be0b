"""A worker's loop through an outage of its database: it waits, stays the same process, and commits within 2 s of the end."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.heartbeat import HeartbeatFile, read_heartbeat
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    counters,
    postgres_threadlocal_connection,
)
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.loop import Limits, Loop
from fraud_daemons.runtime.signals import StopRequest
from tests.line import ROOT

pytestmark = pytest.mark.datastore

BAR_SECONDS = 2.0


class Writer(PlainActivity):
    """One row a step under a key of its own, twenty a second; notes when each was committed."""

    name = "writer"

    def __init__(self, source: DsnSource, options: ConnectOptions) -> None:
        self._source, self._options = source, options
        self.committed: list[float] = []

    def step(self) -> Outcome:
        with postgres_threadlocal_connection(self._source, self._options) as connection:
            connection.execute("insert into effects values (%s) on conflict do nothing", [len(self.committed)])
        self.committed.append(time.monotonic())
        return Outcome(records=1, rest_seconds=0.05)

    def forget(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        close_thread_connections()


class Worker:
    """A real loop over the writer, in a thread, with the delays of the profile that ships."""

    def __init__(self, source: DsnSource, beat: Path) -> None:
        profile = load_profile("local_parity", root=ROOT, environment={})
        clock = SystemClock()
        self.stop = StopRequest()
        self.writer = Writer(source, ConnectOptions(application_name="outage"))
        self.codes: list[ExitCode] = []
        identity = identity_of(os.getpid())
        assert identity is not None
        self.beat = beat
        self._loop = Loop(
            [self.writer],
            beat=HeartbeatFile(beat, worker="w", pack="p", process=identity, clock=clock, version="v"),
            stop=self.stop,
            clock=clock,
            log=structlog.get_logger("w"),
            limits=Limits(retry_delay_seconds_max=profile.get("loop.retry_delay_seconds_max")),
            connector_counters=counters,
        )
        self._thread = threading.Thread(target=lambda: self.codes.append(self._loop.run()))

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.request()
        self._thread.join(20)

    def committed_after(self, moment: float, *, seconds_max: float = 30) -> float:
        """When the first row after `moment` was committed, in seconds from it."""
        ends = time.monotonic() + seconds_max
        while not (self.writer.committed and self.writer.committed[-1] > moment):
            assert not self.codes, f"the loop has left with {self.codes}"
            assert time.monotonic() < ends, "no commit"
            time.sleep(0.005)
        return next(at for at in self.writer.committed if at > moment) - moment

    def says(self) -> tuple[str, str | None]:
        beat = read_heartbeat(self.beat)
        assert beat is not None
        return beat.state, beat.reason


REFUSED, SILENT = ("refuse", "postgres: refused"), ("stall", "postgres: connect timeout")


@pytest.mark.parametrize(
    ("fault", "outage_seconds"),
    [
        pytest.param(REFUSED, 5),
        pytest.param(REFUSED, 10, marks=pytest.mark.slow),
        pytest.param(REFUSED, 40, marks=pytest.mark.slow),
        pytest.param(REFUSED, 120, marks=pytest.mark.slow),
        pytest.param(SILENT, 40, marks=pytest.mark.slow),
    ],
)
def test_the_first_commit_after_an_outage_comes_within_two_seconds(
    proxy: WireProxy, far: DsnSource, database: str, short_dir: Path, fault: tuple[str, str], outage_seconds: int
) -> None:
    """However long nobody listened, or answered: the loop says so meanwhile, never leaves, and its rows are there once each."""
    strike, reason = fault
    with Worker(far, short_dir / "w.json") as worker:
        worker.committed_after(0.0)
        getattr(proxy, strike)()
        time.sleep(outage_seconds)
        assert worker.says() == ("waiting", reason)
        proxy.pass_on()
        lag = worker.committed_after(time.monotonic())
        print(f"{reason} for {outage_seconds} s: first commit {lag:.3f} s after its end")
        assert lag <= BAR_SECONDS
    assert worker.codes == [ExitCode.GOOD]
    with psycopg.connect(database) as seen:
        rows = seen.execute("select count(*), max(id) + 1 from effects").fetchone()
    assert rows == (len(worker.writer.committed),) * 2


def test_a_password_rotated_under_a_worker_is_named_and_recovered_from(
    database: str, login: str, short_dir: Path
) -> None:
    """Rotated on the server while the worker runs: `waiting`, by its SQLSTATE, within 5 s; the right one in its place and it
    goes on, the same process."""
    password, role = "right", sql.Identifier(login)
    source = DsnSource(f"TEST_{uuid.uuid4().hex}", lambda: make_conninfo(database, user=login, password=password))
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("create table effects (id integer primary key)")
        owner.execute(sql.SQL("grant all on effects to {}").format(role))
        with Worker(source, short_dir / "w.json") as worker:
            worker.committed_after(0.0)
            owner.execute(sql.SQL("alter role {} password 'rotated'").format(role))
            owner.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s", [login])
            ended = time.monotonic()
            while worker.says() != ("waiting", "postgres: 28P01"):
                assert time.monotonic() - ended < 5
                time.sleep(0.02)
            time.sleep(1)
            password = "rotated"
            assert worker.committed_after(time.monotonic()) <= BAR_SECONDS
        assert worker.codes == [ExitCode.GOOD]


def test_a_wrong_password_at_start_is_named_at_once(database: str, short_dir: Path) -> None:
    """The first heartbeat after the first try carries 28P01, long before the worker is held for it."""
    source = DsnSource(
        f"TEST_{uuid.uuid4().hex}", lambda: make_conninfo(database, user="nobody_here", password="wrong")
    )
    begun = time.monotonic()
    with Worker(source, short_dir / "w.json") as worker:
        while not worker.beat.exists() or worker.says() != ("waiting", "postgres: 28P01"):
            assert time.monotonic() - begun < 5
            time.sleep(0.02)
