"""Acceptance on a server whose log is not ours: its activity views and counters speak, and what they hide is not measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from fraud_daemons.acceptance.gates import connections_bounded, recurrence_scan
from fraud_daemons.acceptance.gates.connections_bounded import PHASES
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import FAIL, PASS
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.supervision.deployment import deployment_of
from tests.line import ROOT


def scene_on(dsn: str, run_dir: Path) -> Scene:
    """An acceptance of a platform without workers whose PostgreSQL is somebody else's, everything noted."""
    environment = {"PLATFORM_DSN": dsn, "PLATFORM_DATABASE_ROLES": "given", "PLATFORM_PROFILE_RUN_DIR": str(run_dir)}
    profile, clock = load_profile("local_parity", root=ROOT, environment=environment), SystemClock()
    (run_dir / "logs").mkdir()
    scene = Scene(
        profile, deployment_of(profile, packs=()), clock, lambda _: None, run="r", world="w", hold_seconds=1.0,
        begun_at=clock.now(), begun_monotonic=clock.monotonic(),
    )  # fmt: skip
    scene.note_servers("begin")
    scene.logs = scene.mark_logs()
    return scene


@contextmanager
def two_rows(dsn: str) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """Two sessions, and a table of two rows for them."""
    with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
        first.execute("create table rows (id int); insert into rows values (1), (2)")
        first.commit()
        yield first, second


def a_killed_session(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as owner:
        victim = psycopg.connect(dsn)
        owner.execute("select pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))
        victim.close()


def a_deadlock(dsn: str) -> None:
    """Each holds a row that the other wants; the server ends one of them."""
    refused: list[psycopg.Error] = []

    def update(connection: psycopg.Connection, row: int) -> None:
        try:
            connection.execute("update rows set id = id where id = %s", (row,))
        except psycopg.errors.DeadlockDetected as error:
            refused.append(error)
        finally:
            connection.rollback() if refused else connection.commit()

    with two_rows(dsn) as (first, second):
        first.execute("update rows set id = id where id = 1")
        second.execute("update rows set id = id where id = 2")
        waiting = threading.Thread(target=update, args=(first, 2))
        waiting.start()
        update(second, 1)
        waiting.join()
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (a_killed_session, "1 sessions that ended badly, 0 deadlocks"),
        (a_deadlock, "0 sessions that ended badly, 1 deadlocks"),
    ],
)
def test_the_servers_own_counters_speak_where_its_log_is_not_ours(
    database: str, short_dir: Path, fault: Callable[[str], None], named: str
) -> None:
    """Nothing happened: PASS, and it says by what. A session killed, a deadlock: each a FAIL in the server's own numbers."""
    scene = scene_on(database, short_dir)
    before = recurrence_scan.measure(scene)
    assert (before.verdict, before.covered["postgres"]) == (PASS, "PostgreSQL by its activity views (0 looks)")
    fault(database)
    scene.settled_servers()
    found = recurrence_scan.measure(scene)
    assert (found.verdict, found.observed) == (FAIL, f"the servers count {named}")


def test_sessions_that_are_hidden_are_not_measured(database: str, login: str, short_dir: Path) -> None:
    """A role that may not read others' activity: the gate says how many it does not see and what to grant, instead of
    judging by its own sessions alone; granted, it judges."""
    plain = psycopg.conninfo.make_conninfo(database, user=login, password="right")
    with psycopg.connect(database, application_name="somebody else", autocommit=True) as owner:
        scene = scene_on(plain, short_dir)
        looks = scene.look_at_servers()
        scene.servers = dict.fromkeys(("begin", *PHASES), looks)
        scene.own_sessions = dict.fromkeys(scene.servers, 0)
        found = connections_bounded.measure(scene)
        assert (found.verdict, found.measured) == (FAIL, False)
        assert "PLATFORM_DSN hides 1 sessions from the operator's role" in found.observed
        assert "grant pg_read_all_stats" in found.observed
        owner.execute(psycopg.sql.SQL("grant pg_read_all_stats to {}").format(psycopg.sql.Identifier(login)))
        seen = scene.look_at_servers()
        assert [session.name for session in seen["PLATFORM_DSN"].sessions] == ["somebody else"]
        scene.servers = dict.fromkeys(scene.servers, seen)
        assert connections_bounded.measure(scene).verdict == PASS
