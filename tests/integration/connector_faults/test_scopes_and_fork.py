"""A scope that is held too long is told with its stack; a forked child leaves its parent's sessions alone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    close_thread_connections,
    postgres_threadlocal_connection,
)
from fraud_daemons.postgres_runtime.scope_watch import LongScope, ScopeWatch
from tests.integration.connector_faults.asking import ask, grown, source_of, until

pytestmark = pytest.mark.datastore


def test_a_scope_held_too_long_is_told_once_with_the_stack_that_holds_it(database: str, before: dict[str, int]) -> None:
    """The report names thread, DSN and the very line that does not come back."""
    source = source_of(lambda: database)
    options = ConnectOptions(application_name="long", scope_seconds_max=0.2)
    told: list[LongScope] = []
    release = threading.Event()

    def sits_on_its_session() -> None:
        with postgres_threadlocal_connection(source, options) as connection:
            connection.execute("select 1")
            release.wait(20)
        close_thread_connections()

    holder = threading.Thread(target=sits_on_its_session, name="the_holder")
    with ScopeWatch(told.append, look_seconds=0.05):
        holder.start()
        until(lambda: bool(told))
        ask(source, options)  # a short one beside it is nobody's business
        time.sleep(0.3)
        release.set()
        holder.join(10)
    assert len(told) == 1
    assert (told[0].source, told[0].thread) == (source.name, "the_holder")
    assert told[0].seconds >= 0.2
    assert "sits_on_its_session" in told[0].stack
    assert "release.wait(20)" in told[0].stack
    assert grown(before)["scopes_long"] == 1


FORKING = """
import gc, os, sys, threading
from fraud_daemons.postgres_runtime.connector import *
source = DsnSource("forking", lambda: sys.argv[1])
def pid():
    with postgres_threadlocal_connection(source) as connection:
        return connection.execute("select pg_backend_pid()").fetchone()[0]
asked, answered, others = threading.Semaphore(0), threading.Semaphore(0), []
def neighbour():
    while asked.acquire():
        others.append(pid())
        answered.release()
threading.Thread(target=neighbour, daemon=True).start()
def both():
    asked.release(); answered.acquire()
    return pid(), others[-1]
mine = both()
child = os.fork()
if child == 0:
    gc.collect()
    assert pid() not in mine
    assert counters()["opened"] == 1
    sys.exit(0)  # an orderly end: everything is finalised, and must not say goodbye on the parent's sockets
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert both() == mine
assert counters()["opened"] == 2
"""


def test_a_child_and_its_end_do_not_touch_its_parents_sessions(database: str) -> None:
    """A fork from a process with two threads and their sessions: the child opens its own, counts for itself, leaves in
    good order, and both sessions of the parent are as before."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, database], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
