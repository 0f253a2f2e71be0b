"""The shared connector: one open connection per (process, thread, DSN, options), reused, closed in its transaction.

The incident this platform comes from was a connection per small operation; so here a scope *borrows*:

    with postgres_threadlocal_connection(source, options) as connection: ...

commits on success, rolls back on exception, and drops the connection when either fails - it is never left idle in
transaction. When to reconnect is decided here, not in a pool: three attempts, 0.05 s doubling, for transient causes;
beyond that the caller's loop has the patience. A server that answers nothing at all is `deadline`'s matter. Forgotten after fork; evicted when closed, broken or too old.
"""

from __future__ import annotations

import os
import random
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from fraud_daemons.errors import CommitAmbiguous, FatalFault, TransientFault
from fraud_daemons.postgres_runtime.deadline import DeadlineConnection
from fraud_daemons.postgres_runtime.faults import Kind, Verdict, fault_from, judge, judge_connect

CONNECT_ATTEMPTS_MAX = 3
CONNECT_DELAY_SECONDS = 0.05
PEER_READS_MAX = 8
CREDENTIAL_GRACE_SECONDS = 10.0
"""How long a credential that never worked may be refused before it is a configuration fault: a rotation in progress."""

Connection = psycopg.Connection[Any]
ConnectionOf = Callable[[str], Connection]
"""A connection by DSN name, for whoever reads tables of several components: they may stand on several servers."""
Nested = Literal["refuse", "join", "savepoint"]


@dataclass(frozen=True)
class DsnSource:
    """Where a DSN comes from: its name, safe to log, and how to read it - again at each connect, so rotation works."""

    name: str
    read: Callable[[], str]


@dataclass(frozen=True)
class ConnectOptions:
    """Session options, times in seconds. Part of the connection's key: equal options share a connection."""

    application_name: str = "fraud_daemons"
    connect_timeout: float = 3.0
    statement_timeout: float = 6.0
    client_deadline: float = 8.0
    """How long one answer may take, whatever the server does; above statement_timeout, so that a live server speaks first."""
    lock_timeout: float = 5.0
    idle_in_transaction: float = 5.0
    age_max: float = 1800.0

    def parameters(self) -> dict[str, Any]:
        """libpq parameters. Keepalives AND tcp_user_timeout AND server-side limits: each alone leaves a hole."""
        milliseconds = {
            "statement_timeout": self.statement_timeout,
            "lock_timeout": self.lock_timeout,
            "idle_in_transaction_session_timeout": self.idle_in_transaction,
        }
        settings = " ".join(f"-c {name}={int(value * 1000)}" for name, value in milliseconds.items())
        return {
            "application_name": self.application_name,
            "connect_timeout": max(2, round(self.connect_timeout)),  # libpq takes whole seconds, at least 2
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 8000,
            # plans for the values at hand: a generic plan made while a table was empty stays for the session's life
            "options": f"{settings} -c TimeZone=UTC -c plan_cache_mode=force_custom_plan -c jit=off",
        }


@dataclass
class Counters:
    """What the connector did in this process; shown in heartbeat and metrics."""

    opened: int = 0
    reused: int = 0
    waited: int = 0
    evicted: int = 0
    retried: int = 0


@dataclass
class _Held:
    """One cached connection of one thread."""

    connection: DeadlineConnection
    expires: float
    in_scope: bool = False


class _Cache(threading.local):
    """This thread's connections by (pid, DSN name, options)."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, str, ConnectOptions], _Held] = {}


_cache = _Cache()
_lock = threading.Lock()
_counters = Counters()
_worked: set[str] = set()  # DSN names that connected at least once in this process
_refused_since: dict[str, float] = {}


def counters() -> dict[str, int]:
    """A copy of this process's counters."""
    with _lock:
        return asdict(_counters)


def _count(name: str) -> None:
    with _lock:
        setattr(_counters, name, getattr(_counters, name) + 1)


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
    held.in_scope = True
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
    return None if held is None or held.in_scope or held.connection.closed else held.connection


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
        if verdict.drop:
            held.expires = 0.0  # the outer scope sees our fault, not the driver's: this is how it learns to let go
        raise fault_from(error, verdict) or error from error


def _usable(key: tuple[int, str, ConnectOptions], held: _Held | None) -> _Held | None:
    """The cached connection when it is whole and young; otherwise it is evicted."""
    if held is None:
        return None
    if held.connection.closed or time.monotonic() > held.expires or _peer_gone(held.connection):
        _drop(key)
        _count("evicted")
        return None
    _count("reused")
    return held


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


def _open(key: tuple[int, str, ConnectOptions], source: DsnSource, options: ConnectOptions) -> _Held:
    patience_ends = time.monotonic() + options.connect_timeout  # three attempts that each time out would outlast a beat
    for attempt in range(1, CONNECT_ATTEMPTS_MAX + 1):
        try:
            connection = DeadlineConnection.connect(make_conninfo(source.read(), **options.parameters()))
            break
        except psycopg.Error as error:
            verdict = judge_connect(error)
            last = attempt == CONNECT_ATTEMPTS_MAX or time.monotonic() >= patience_ends
            if last or verdict.kind is not Kind.TRANSIENT:
                raise _connect_fault(source, error, verdict) from error
            _count("retried")
            time.sleep(CONNECT_DELAY_SECONDS * 2 ** (attempt - 1))
    connection.client_deadline = options.client_deadline
    _count("opened")
    _worked.add(source.name)
    _refused_since.pop(source.name, None)
    age = options.age_max * random.uniform(0.8, 1.0)  # noqa: S311 - spreads reconnects, guards nothing
    held = _Held(connection=connection, expires=time.monotonic() + age)
    _cache.held[key] = held
    return held


def _connect_fault(source: DsnSource, error: psycopg.Error, verdict: Verdict) -> Exception:
    """A refused credential is patience while it used to work or may just be rotating, and fatal otherwise."""
    _count("waited")
    # libpq quotes a malformed connection string, with the password in it
    said = "" if isinstance(error, psycopg.ProgrammingError) else f": {str(error).strip().splitlines()[-1]}"
    message = f"{verdict.reason} ({source.name}){said}"
    if verdict.kind is Kind.CREDENTIAL:
        since = _refused_since.setdefault(source.name, time.monotonic())
        if source.name in _worked or time.monotonic() - since < CREDENTIAL_GRACE_SECONDS:
            return TransientFault(message, reason=verdict.reason)
        return FatalFault(message, reason=f"config: {verdict.reason} for {source.name}")
    if verdict.kind is Kind.FATAL:
        return FatalFault(message, reason=f"config: {verdict.reason} for {source.name}")
    return TransientFault(message, reason=verdict.reason)


def _commit(key: tuple[int, str, ConnectOptions], held: _Held) -> None:
    if held.connection.info.transaction_status == TransactionStatus.INERROR:
        # COMMIT would answer politely and roll back: a caller that swallowed the error would believe its work is kept
        held.connection.rollback()
        raise RuntimeError("a statement of this scope failed and the error was swallowed; nothing was committed")
    try:
        held.connection.commit()
    except psycopg.Error as error:
        broken = held.connection.broken or held.connection.closed
        verdict = judge(error, broken=broken)
        _drop(key)
        _count("evicted")
        if broken:
            raise CommitAmbiguous(f"{verdict.reason}: the answer to COMMIT was lost", reason=verdict.reason) from error
        fault = fault_from(error, verdict)
        raise fault or error from error


def _abandon(key: tuple[int, str, ConnectOptions], held: _Held, error: BaseException) -> None:
    """Roll back and, for a database error, raise the platform's own fault from it."""
    broken = held.connection.broken or held.connection.closed
    verdict = judge(error, broken=broken) if isinstance(error, psycopg.Error) else None
    if not broken:
        try:
            held.connection.rollback()
        except psycopg.Error:
            broken = True
    if broken or (verdict and verdict.drop) or held.connection.info.transaction_status != TransactionStatus.IDLE:
        _drop(key)
        _count("evicted")
    if verdict and isinstance(error, psycopg.Error):
        fault = fault_from(error, verdict)
        if fault is not None:
            raise fault from error


def _drop(key: tuple[int, str, ConnectOptions]) -> None:
    held = _cache.held.pop(key, None)
    if held is not None:
        try:
            held.connection.close()
        except psycopg.Error:  # it is gone either way
            pass


def _forget_after_fork() -> None:
    """A child must not touch its parent's sockets: forget them without the polite goodbye that close would send."""
    _forgotten.extend(_cache.held.values())
    _cache.held = {}


_forgotten: list[_Held] = []  # keeps the parent's connections referenced in a child, so that nothing finalises them
os.register_at_fork(after_in_child=_forget_after_fork)
