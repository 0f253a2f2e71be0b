"""The shared connector: one open connection per (process, thread, DSN, options), reused, closed in its transaction.

The incident this platform comes from was a connection per small operation; so here a scope *borrows*:

    with postgres_threadlocal_connection(source, options) as connection: ...

commits on success, rolls back on exception, and drops the connection when either fails - it is never left idle in
transaction. When a session is opened is decided in `connecting`, not in a pool; a server that answers nothing at all is
`deadline`'s matter. Forgotten after fork; evicted when closed, broken, too old, or when a sibling found the server changed.
"""

from __future__ import annotations

import os
import random
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.pq import TransactionStatus

from fraud_daemons.errors import CommitAmbiguous
from fraud_daemons.postgres_runtime.connecting import ConnectOptions, DsnSource, open_session
from fraud_daemons.postgres_runtime.counters import count, counters
from fraud_daemons.postgres_runtime.deadline import DeadlineConnection
from fraud_daemons.postgres_runtime.faults import Fate, Verdict, fault_from, judge

__all__ = [
    "ConnectOptions",
    "Connection",
    "ConnectionOf",
    "DsnSource",
    "Nested",
    "OpenScope",
    "close_thread_connections",
    "counters",
    "listening_connection",
    "open_scopes",
    "postgres_threadlocal_connection",
]

PEER_READS_MAX = 8

_spread = random.SystemRandom()
"""Spreads reconnects. Of its own: a connect in one thread changes no seeded draw in another."""

Connection = psycopg.Connection[Any]
ConnectionOf = Callable[[str], Connection]
"""A connection by DSN name, for whoever reads tables of several components: they may stand on several servers."""
Nested = Literal["refuse", "join", "savepoint"]
_Key = tuple[int, str, ConnectOptions]


@dataclass
class _Held:
    """One cached connection of one thread."""

    connection: DeadlineConnection
    server: str
    generation: int
    expires: float
    in_scope: bool = False
    entered: float = 0.0


class _HeldByKey(dict[_Key, _Held]):
    """One thread's connections; a class of its own because a plain dict cannot be referred to weakly."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        _all_held[self.thread] = self


class _Cache(threading.local):
    """This thread's connections by (pid, DSN name, options)."""

    def __init__(self) -> None:
        self.held = _HeldByKey()


_all_held: weakref.WeakValueDictionary[int, _HeldByKey] = weakref.WeakValueDictionary()
_cache = _Cache()
_generation: dict[str, int] = {}
"""By server: how often one of this process's sessions found it changed. A session of an older generation is not used."""


@dataclass(frozen=True)
class OpenScope:
    """A scope that is open now in some thread."""

    thread: int
    source: str
    entered: float  # monotonic seconds
    seconds_max: float


def open_scopes() -> list[OpenScope]:
    """Every thread's open scopes, for whoever watches how long they are held."""
    return [
        OpenScope(by_key.thread, name, held.entered, options.scope_seconds_max)
        for reference in _all_held.valuerefs()
        if (by_key := reference()) is not None
        for (_, name, options), held in list(by_key.items())
        if held.in_scope
    ]


@contextmanager
def postgres_threadlocal_connection(
    source: DsnSource, options: ConnectOptions | None = None, *, nested: Nested = "refuse"
) -> Iterator[Connection]:
    """Borrow this thread's connection to `source` for one transaction.

    A scope inside a scope of the same connection is refused unless `nested` says "join" (one transaction, the outer
    scope closes it) or "savepoint". Raises TransientFault, OverloadFault, PoisonFault or FatalFault for errors of the
    database, CommitAmbiguous when the answer to COMMIT was lost; anything else is the caller's own and passes through.
    """
    options = options or ConnectOptions()
    key = (os.getpid(), source.name, options)
    held = _cache.held.get(key)
    if held is not None and held.in_scope:
        with _inner_scope(held, nested, source) as connection:
            yield connection
        return
    held = _usable(key, held) or _open(key, source, options)
    held.in_scope, held.entered = True, time.monotonic()
    try:
        yield held.connection
    except BaseException as error:
        _abandon(key, held, error)
        raise
    else:
        _commit(key, held)
    finally:
        held.in_scope = False


def listening_connection(source: DsnSource, options: ConnectOptions) -> Connection | None:
    """This thread's idle connection to `source`, to wait on for notifications between scopes; None when there is none."""
    held = _cache.held.get((os.getpid(), source.name, options))
    if held is None or held.in_scope or held.connection.closed or _outdated(held):
        return None
    return held.connection


def close_thread_connections() -> None:
    """Close every connection of this thread; called when a worker drains."""
    for key in list(_cache.held):
        _drop(key)


@contextmanager
def _inner_scope(held: _Held, nested: Nested, source: DsnSource) -> Iterator[Connection]:
    if nested == "refuse":
        raise RuntimeError(
            f"a scope on {source.name} is already open in this thread; pass nested='join' or 'savepoint'"
        )
    if nested == "join":
        yield held.connection
        return
    try:
        with held.connection.transaction():
            yield held.connection
    except psycopg.Error as error:
        verdict = judge(error, broken=held.connection.broken or held.connection.closed)
        _evict_siblings(held, verdict)
        if verdict.fate is not Fate.KEEP:
            held.expires = 0.0  # the outer scope sees our fault, not the driver's: this is how it learns to let go
        raise fault_from(error, verdict) or error from error


def _usable(key: _Key, held: _Held | None) -> _Held | None:
    """The cached connection when it is whole and young; otherwise it is evicted."""
    if held is None:
        return None
    outdated = _outdated(held)
    if outdated or held.connection.closed or time.monotonic() > held.expires or _peer_gone(held.connection):
        _evict(key)
        if outdated:
            count("siblings_evicted")
        return None
    count("reused")
    return held


def _outdated(held: _Held) -> bool:
    """Whether another session has found the server restarted, demoted or silent since this one was opened."""
    return _generation.get(held.server, 0) != held.generation


def _peer_gone(connection: Connection) -> bool:
    """Whether the server has closed an idle connection; costs one poll of the socket and no round trip.

    Reads until the socket is quiet: of a terminated session the first read gets the server's last words, and only the
    next one the end of the stream. Notifications are read and kept by libpq.
    """
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        for _ in range(PEER_READS_MAX):
            if not poll.poll(0):
                return False
            connection.pgconn.consume_input()
            if connection.broken or connection.closed:
                return True
    except (psycopg.Error, OSError, ValueError):
        return True
    return False  # a stream of notifications: whoever talks is there


def _open(key: _Key, source: DsnSource, options: ConnectOptions) -> _Held:
    known = dict(_generation)  # from before: a change found while we connect outdates us too
    connection = open_session(source, options)
    server = f"{connection.info.host}:{connection.info.port}"
    age = options.age_max * _spread.uniform(0.8, 1.0)
    held = _Held(connection, server, known.get(server, 0), expires=time.monotonic() + age)
    _cache.held[key] = held
    return held


def _commit(key: _Key, held: _Held) -> None:
    if held.connection.info.transaction_status == TransactionStatus.INERROR:
        # COMMIT would answer politely and roll back: a caller that swallowed the error would believe its work is kept
        held.connection.rollback()
        raise RuntimeError("a statement of this scope failed and the error was swallowed; nothing was committed")
    try:
        held.connection.commit()
    except psycopg.Error as error:
        broken = held.connection.broken or held.connection.closed
        verdict = judge(error, broken=broken)
        _evict(key)
        _evict_siblings(held, verdict)
        if broken or verdict.outcome_unknown:
            count("ambiguous")
            raise CommitAmbiguous(f"{verdict.reason}: the answer to COMMIT was lost", reason=verdict.reason) from error
        fault = fault_from(error, verdict)
        raise fault or error from error


def _abandon(key: _Key, held: _Held, error: BaseException) -> None:
    """Roll back and, for a database error, raise the platform's own fault from it."""
    broken = held.connection.broken or held.connection.closed
    verdict = judge(error, broken=broken) if isinstance(error, psycopg.Error) else None
    if not broken:
        try:
            held.connection.rollback()
        except psycopg.Error:
            broken = True
    gone = broken or held.connection.info.transaction_status != TransactionStatus.IDLE
    if gone or (verdict and verdict.fate is not Fate.KEEP):
        _evict(key)
    if verdict and isinstance(error, psycopg.Error):
        _evict_siblings(held, verdict)
        fault = fault_from(error, verdict)
        if fault is not None:
            raise fault from error


def _evict_siblings(held: _Held, verdict: Verdict) -> None:
    """No other session of this process to the same server is used again; each thread drops its own at its next scope.

    Two threads that find it at once count it once or twice: either way every session opened before is outdated.
    """
    if verdict.fate is Fate.DROP_ALL:
        _generation[held.server] = _generation.get(held.server, 0) + 1


def _evict(key: _Key) -> None:
    _drop(key)
    count("evicted")


def _drop(key: _Key) -> None:
    held = _cache.held.pop(key, None)
    if held is not None:
        try:
            held.connection.close()
        except psycopg.Error:  # it is gone either way
            pass


def _forget_after_fork() -> None:
    """A child must not touch its parent's sockets: forget them without the polite goodbye that close would send."""
    _forgotten.extend(_cache.held.values())
    _cache.held = _HeldByKey()


_forgotten: list[_Held] = []  # keeps the parent's connections referenced in a child, so that nothing finalises them
os.register_at_fork(after_in_child=_forget_after_fork)
