"""The policy of the incident, kept so that it can be shown: every scope opens a connection of its own and closes it.

Nothing may use it but the drill that reproduces the incident; `bootstrap.incident` is the only place that chooses it. It
has the shared connector's promises about transactions and faults, and none about reuse: that is the one difference.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from fraud_daemons.errors import CommitAmbiguous, TransientFault
from fraud_daemons.postgres_runtime.connector import Connection, ConnectOptions, DsnSource, Nested
from fraud_daemons.postgres_runtime.counters import Counters
from fraud_daemons.postgres_runtime.deadline import DeadlineConnection
from fraud_daemons.postgres_runtime.faults import fault_from, judge, judge_connect

WORDS_KEPT_MAX = 20
"""Refused connects whose text goes to stderr, per process: the operating system's own words are the evidence."""

_lock = threading.Lock()
_figures = Counters()
_open = threading.local()


def figures() -> dict[str, int]:
    """What this process did, under the names of the shared connector's counters."""
    with _lock:
        return asdict(_figures)


@contextmanager
def connection_per_operation(
    source: DsnSource, options: ConnectOptions | None = None, *, nested: Nested = "refuse"
) -> Iterator[Connection]:
    """One transaction on a connection that is opened for it and closed after it; no second attempt at connecting."""
    outer: DeadlineConnection | None = getattr(_open, "connection", None)
    if outer is not None and nested != "refuse":
        if nested == "join":
            yield outer
        else:
            with outer.transaction():
                yield outer
        return
    connection = _connect(source, options or ConnectOptions())
    _open.connection = connection
    try:
        with _translated(connection):
            yield connection
            _commit(connection)
    finally:
        _open.connection = outer
        connection.close()


def _connect(source: DsnSource, options: ConnectOptions) -> DeadlineConnection:
    try:
        connection = DeadlineConnection.connect(make_conninfo(source.read(), **options.parameters()))
    except psycopg.Error as error:
        verdict = judge_connect(error, None)
        _count("waited")
        if figures()["waited"] <= WORDS_KEPT_MAX:
            print(f"psycopg.{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        raise TransientFault(f"{verdict.reason} ({source.name})", reason=verdict.reason) from error
    connection.client_deadline = options.client_deadline
    _count("opened")
    return connection


@contextmanager
def _translated(connection: DeadlineConnection) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        fault = fault_from(error, judge(error, broken=connection.broken or connection.closed))
        if fault is None:
            raise
        raise fault from error


def _commit(connection: DeadlineConnection) -> None:
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise RuntimeError("a statement of this scope failed and the error was swallowed; nothing was committed")
    try:
        connection.commit()
    except psycopg.OperationalError as error:
        if connection.broken or connection.closed:
            raise CommitAmbiguous("the answer to COMMIT was lost", reason="postgres: connection lost") from error
        raise


def _count(name: str) -> None:
    with _lock:
        setattr(_figures, name, getattr(_figures, name) + 1)
