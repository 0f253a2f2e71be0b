"""When a session is opened, and when not: attempts, one prober while a server is away, a limit on connects per second.

Three attempts, 0.05 s doubling, for transient causes; beyond that the caller's loop has the patience. While the last
attempt at a DSN has failed, one thread of the process tries and the others wait for what it finds, so that a server
that comes back is not run down by those who waited. The limit per second is the guard against the incident this
platform comes from: whatever else goes wrong, nobody can use up the machine's ports by connecting.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from fraud_daemons.errors import FatalFault, PlatformError, TransientFault
from fraud_daemons.observability.pulse import pulse
from fraud_daemons.postgres_runtime.counters import count
from fraud_daemons.postgres_runtime.deadline import DeadlineConnection
from fraud_daemons.postgres_runtime.diagnosis import Diagnosis, diagnose
from fraud_daemons.postgres_runtime.faults import Kind, Verdict, judge_connect, local_cause

CONNECT_ATTEMPTS_MAX = 3
CONNECT_DELAY_SECONDS = 0.05
CREDENTIAL_GRACE_SECONDS = 10.0
"""How long a credential that never worked may be refused before it is a configuration fault: a rotation in progress."""
DIAGNOSIS_SECONDS_MAX = 2.0
DIAGNOSIS_REST_SECONDS = 30.0
"""Between two diagnoses of the same words, when the second connect met something else than the first, or nothing. When
both met the same, it holds for as long as a failed connect says so."""
BURST_SECONDS = 4.0
"""The bucket holds this many seconds' worth of connects: a start opens several at once."""


@dataclass(frozen=True)
class DsnSource:
    """Where a DSN comes from: its name, safe to log, and how to read it - again at each connect, so rotation works."""

    name: str
    read: Callable[[], str]


_PLANS_FOR_VALUES: Final = "-c plan_cache_mode=force_custom_plan"
# a plan made while a table was empty stays until somebody analyses it: so none that is good for an empty table only
_KEPT_PLANS: Final = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off"


@dataclass(frozen=True)
class ConnectOptions:
    """Session options, times in seconds. Part of the connection's key: equal options share a connection."""

    application_name: str = "fraud_daemons"
    connect_timeout: float = 3.0
    connects_per_second_max: float = 50.0
    statement_timeout: float = 6.0
    client_deadline: float = 8.0
    """How long one answer may take, whatever the server does; above statement_timeout, so that a live server speaks first."""
    lock_timeout: float = 5.0
    idle_in_transaction: float = 5.0
    age_max: float = 1800.0
    scope_seconds_max: float = 10.0
    """A scope held longer is reported with the stack that holds it; it is not ended."""
    keeps_plans: bool = False
    """For sessions whose statements all look up by key: each is planned once. Planning is half the price of a small batch."""

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
            # a dead link is noticed within 3 + 3 x 2 = 9 s even by a session whose statements may take a minute
            "keepalives": 1,
            "keepalives_idle": 3,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 8000,
            "options": f"{settings} -c TimeZone=UTC -c jit=off {_KEPT_PLANS if self.keeps_plans else _PLANS_FOR_VALUES}",
        }


class ConnectBucket:
    """At most so many connects a second, a burst aside. Who finds it empty queues up, within its patience."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent = 0.0  # tokens taken and not yet refilled; above the burst = the queue
        self._at = time.monotonic()

    def take(self, per_second: float, *, patience_seconds: float) -> bool:
        """Wait for one's turn; False, at once, when it would not come within the patience."""
        with self._lock:
            now = time.monotonic()
            self._spent = max(0.0, self._spent - (now - self._at) * per_second)
            self._at = now
            seconds = (self._spent + 1 - per_second * BURST_SECONDS) / per_second
            if seconds > patience_seconds:
                return False
            self._spent += 1
        if seconds > 0:
            count("throttled")
            time.sleep(seconds)
        return True


@dataclass
class _Door:
    """What this process knows of one DSN."""

    turn: threading.Condition = field(default_factory=threading.Condition)
    worked: bool = False  # at least once in this process
    away: bool = False  # the last attempt failed
    probing: bool = False
    fault: PlatformError | None = None  # what the last prober found; None = the server took it
    refused_since: float | None = None
    said: str = ""  # text of the failed connect that was diagnosed last, and what came of it
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    diagnosed_at: float = float("-inf")


_doors: dict[str, _Door] = {}
_doors_lock = threading.Lock()
_bucket = ConnectBucket()


def open_session(source: DsnSource, options: ConnectOptions) -> DeadlineConnection:
    """A new connection. Raises TransientFault or FatalFault, with the cause's SQLSTATE where the server gave one."""
    with _doors_lock:
        door = _doors.setdefault(source.name, _Door())
    prober = _enter(door, options)
    try:
        connection = _attempts(door, source, options)
    except PlatformError as fault:
        count("waited")
        with door.turn:
            door.away, door.fault = True, fault
        raise
    else:
        count("opened")
        with door.turn:
            door.worked, door.away, door.fault, door.refused_since = True, False, None, None
    finally:
        if prober:
            with door.turn:
                door.probing = False
                door.turn.notify_all()
    return connection


def _enter(door: _Door, options: ConnectOptions) -> bool:
    """True for the thread that tries a server which is away; the others wait here and raise what it found."""
    with door.turn:
        if not door.away:
            return False
        if not door.probing:
            door.probing = True
            return True
        pulse()
        # the prober's last attempt may begin when its patience ends, and is followed by a diagnosis
        door.turn.wait_for(lambda: not door.probing, 2 * options.connect_timeout + DIAGNOSIS_SECONDS_MAX)
        if (fault := door.fault) is None:
            return False
    count("waited")
    kind = FatalFault if isinstance(fault, FatalFault) else TransientFault
    raise kind(str(fault), reason=fault.reason) from fault


def _attempts(door: _Door, source: DsnSource, options: ConnectOptions) -> DeadlineConnection:
    patience_ends = time.monotonic() + options.connect_timeout  # three attempts that each time out would outlast a beat
    for attempt in range(1, CONNECT_ATTEMPTS_MAX + 1):
        _take_turn(source, options, patience_ends)
        conninfo = ""
        try:
            conninfo = make_conninfo(source.read(), **options.parameters())
            connection = DeadlineConnection.connect(conninfo)
            break
        except psycopg.Error as error:
            verdict = _judged(door, error, conninfo, options)
            last = attempt == CONNECT_ATTEMPTS_MAX or time.monotonic() >= patience_ends
            if last or verdict.kind is not Kind.TRANSIENT:
                raise _connect_fault(door, source, error, verdict) from error
            count("retried")
            time.sleep(CONNECT_DELAY_SECONDS * 2 ** (attempt - 1))
    connection.client_deadline = options.client_deadline
    return connection


def _take_turn(source: DsnSource, options: ConnectOptions, patience_ends: float) -> None:
    pulse()
    patience_seconds = max(0.0, patience_ends - time.monotonic())
    if not _bucket.take(options.connects_per_second_max, patience_seconds=patience_seconds):
        count("throttled")
        reason = "postgres: connects throttled"
        limit = f"this process may open {options.connects_per_second_max:g} sessions a second"
        raise TransientFault(f"{reason} ({source.name}): {limit}; trying again", reason=reason)


def _judged(door: _Door, error: psycopg.Error, conninfo: str, options: ConnectOptions) -> Verdict:
    """The verdict on a failed connect, by a second one where only the server knows."""
    if (local := local_cause(error)) is not None:
        return local
    said, now = str(error), time.monotonic()
    holds = door.diagnosis.sqlstate is not None and door.diagnosis.said in said
    if said != door.said or (not holds and now - door.diagnosed_at >= DIAGNOSIS_REST_SECONDS):
        door.said, door.diagnosis, door.diagnosed_at = said, Diagnosis(), now
        if _bucket.take(options.connects_per_second_max, patience_seconds=0.0):
            pulse()
            door.diagnosis = diagnose(conninfo, seconds_max=DIAGNOSIS_SECONDS_MAX)
            if door.diagnosis.sqlstate is not None:
                count("diagnosed")
    return judge_connect(error, door.diagnosis.sqlstate)


def _connect_fault(door: _Door, source: DsnSource, error: psycopg.Error, verdict: Verdict) -> PlatformError:
    """A refused credential is patience while it used to work or may just be rotating, and fatal otherwise."""
    # libpq quotes a malformed connection string, with the password in it
    said = "" if isinstance(error, psycopg.ProgrammingError) else f": {str(error).strip().splitlines()[-1]}"
    message = f"{verdict.reason} ({source.name}){said}"
    if verdict.kind is Kind.CREDENTIAL:
        door.refused_since = door.refused_since or time.monotonic()
        if door.worked or time.monotonic() - door.refused_since < CREDENTIAL_GRACE_SECONDS:
            return TransientFault(message, reason=verdict.reason)
    if verdict.kind in (Kind.CREDENTIAL, Kind.FATAL):
        return FatalFault(message, reason=f"config: {verdict.reason} for {source.name}")
    return TransientFault(message, reason=verdict.reason)


def _begin_anew() -> None:
    """A forked child knows nothing yet: a probe of its parent's will never end here."""
    global _doors_lock, _bucket
    _doors_lock, _bucket = threading.Lock(), ConnectBucket()
    _doors.clear()


os.register_at_fork(after_in_child=_begin_anew)
