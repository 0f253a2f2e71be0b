"""How these tests ask the connector, one at a time or in many threads, and what they make of its answers."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from fraud_daemons.errors import PlatformError, TransientFault
from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    counters,
    postgres_threadlocal_connection,
)

OPTIONS = ConnectOptions(application_name="connector_faults")
STALLED = ConnectOptions(application_name="connector_faults", connect_timeout=2.0, client_deadline=1.5)


def source_of(read: Callable[[], str]) -> DsnSource:
    """A source of its own name: no test sees what another's DSN has been through."""
    return DsnSource(f"TEST_{uuid.uuid4().hex}", read)


def grown(before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in counters().items() if value != before[name]}


def ask(source: DsnSource, options: ConnectOptions = OPTIONS) -> int:
    """One healthy scope; its session's pid."""
    with postgres_threadlocal_connection(source, options) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        return connection.info.backend_pid


def caught(work: Callable[[], object]) -> PlatformError:
    try:
        work()
    except PlatformError as fault:
        return fault
    raise AssertionError("it succeeded")


def succeeds(work: Callable[[], object]) -> bool:
    try:
        work()
    except TransientFault:
        return False
    return True


def in_threads(number: int, work: Callable[[], Any]) -> list[Any]:
    """What each thread's work gave; all begin together."""
    together, found = threading.Barrier(number), []

    def run() -> None:
        together.wait(10)
        try:
            found.append(work())
        finally:
            close_thread_connections()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == number
    return found


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
