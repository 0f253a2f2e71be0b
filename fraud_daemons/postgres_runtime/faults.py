"""The fault table: which kind of fault an error is, by SQLSTATE and by the state of the connection, never by class.

Why not by class: in psycopg 25P03 and 25006 are InternalError although the first has killed the connection, while a
cancelled query and a bad password are OperationalError. And a failed connect has no SQLSTATE at all, so there the
text of libpq and of the server decides (the embedded server speaks English: lc_messages = C).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import psycopg

from fraud_daemons.errors import FatalFault, OverloadFault, PlatformError, PoisonFault, TransientFault


class NoAnswer(psycopg.OperationalError):
    """The client's own deadline passed while it waited for the server; the connection is closed by then."""


class Kind(Enum):
    """What the loop does about it."""

    TRANSIENT = "transient"
    OVERLOAD = "overload"
    POISON = "poison"
    FATAL = "fatal"
    CREDENTIAL = "credential"  # transient while it used to work, fatal when it never did
    BUG = "bug"


@dataclass(frozen=True)
class Verdict:
    """The judgement on one error: its kind, whether the connection must go, and the words for a status line."""

    kind: Kind
    drop: bool
    reason: str


# Longest prefix wins. The second value says whether the connection must be dropped.
_BY_SQLSTATE: dict[str, tuple[Kind, bool]] = {
    "08": (Kind.TRANSIENT, True),
    "0A000": (Kind.TRANSIENT, True),  # cached plan must not change result type: a fresh connection has no plans
    "22": (Kind.POISON, False),
    "23": (Kind.POISON, False),
    "25006": (Kind.TRANSIENT, True),  # read-only after a failover: reconnect to find the new primary
    "25P02": (Kind.BUG, True),  # a statement in a failed transaction: our scope handling is wrong
    "25P03": (Kind.TRANSIENT, True),  # idle in transaction, killed by the server
    "25P04": (Kind.TRANSIENT, True),
    "26000": (Kind.TRANSIENT, True),  # prepared statement gone (pooler)
    "28": (Kind.CREDENTIAL, True),
    "3D000": (Kind.FATAL, True),
    "3F000": (Kind.FATAL, False),
    "40001": (Kind.TRANSIENT, False),
    "40P01": (Kind.TRANSIENT, False),
    "40003": (Kind.TRANSIENT, True),
    "42": (Kind.FATAL, False),  # missing table or column, privilege, syntax: schema and code disagree
    "42P05": (Kind.TRANSIENT, True),
    "53": (Kind.TRANSIENT, False),
    "53200": (Kind.OVERLOAD, False),
    "54": (Kind.OVERLOAD, False),
    "55": (Kind.TRANSIENT, False),
    "57014": (Kind.OVERLOAD, False),  # statement timeout: less at once
    "57P01": (Kind.TRANSIENT, True),
    "57P02": (Kind.TRANSIENT, True),
    "57P03": (Kind.TRANSIENT, True),
    "57P04": (Kind.FATAL, True),
    "57P05": (Kind.TRANSIENT, True),
    "58": (Kind.TRANSIENT, True),
    "F0": (Kind.FATAL, True),
    "XX": (Kind.TRANSIENT, True),
}

# Connect errors carry no SQLSTATE; (words in the message, SQLSTATE or short name, kind).
_BY_CONNECT_TEXT: tuple[tuple[str, str, Kind], ...] = (
    ("password authentication failed", "28P01", Kind.CREDENTIAL),
    ("no password supplied", "28P01", Kind.CREDENTIAL),
    ("no pg_hba.conf entry", "28000", Kind.CREDENTIAL),
    ("is not permitted to log in", "28000", Kind.CREDENTIAL),
    ("role ", "28000", Kind.CREDENTIAL),
    ("too many clients", "53300", Kind.TRANSIENT),
    ("remaining connection slots", "53300", Kind.TRANSIENT),
    ("too many connections", "53300", Kind.TRANSIENT),
    ("is starting up", "57P03", Kind.TRANSIENT),
    ("is shutting down", "57P03", Kind.TRANSIENT),
    ("in recovery mode", "57P03", Kind.TRANSIENT),
    ("not accepting connections", "57P03", Kind.TRANSIENT),
    ("not yet accepting connections", "57P03", Kind.TRANSIENT),
    ("database ", "3D000", Kind.FATAL),
    ("refused", "refused", Kind.TRANSIENT),
    ("no such file or directory", "refused", Kind.TRANSIENT),
    ("cannot assign requested address", "ports exhausted", Kind.TRANSIENT),
    ("address already in use", "ports exhausted", Kind.TRANSIENT),
    ("timeout", "connect timeout", Kind.TRANSIENT),
)


def judge_connect(error: psycopg.Error) -> Verdict:
    """Judge an error raised by connecting."""
    text = str(error).lower()
    if isinstance(error, psycopg.ProgrammingError):
        return Verdict(Kind.FATAL, drop=True, reason="postgres: malformed DSN")
    for words, name, kind in _BY_CONNECT_TEXT:
        if (
            words in text
            and (name != "3D000" or "does not exist" in text)
            and (words != "role " or "does not exist" in text)
        ):
            return Verdict(kind, drop=True, reason=f"postgres: {name}")
    return Verdict(Kind.TRANSIENT, drop=True, reason="postgres: cannot connect")


def judge(error: psycopg.Error, *, broken: bool) -> Verdict:
    """Judge an error raised by a statement; `broken` = the connection is closed or in a bad state."""
    state = error.sqlstate
    if isinstance(error, NoAnswer):
        return Verdict(Kind.TRANSIENT, drop=True, reason="postgres: no answer")
    if state is None:
        if broken or isinstance(error, psycopg.OperationalError):
            return Verdict(Kind.TRANSIENT, drop=True, reason="postgres: connection lost")
        if isinstance(error, psycopg.DataError):
            return Verdict(Kind.POISON, drop=False, reason="postgres: value does not fit its type")
        return Verdict(Kind.BUG, drop=True, reason=f"postgres: {type(error).__name__}")
    for length in (5, 3, 2):
        known = _BY_SQLSTATE.get(state[:length])
        if known:
            return Verdict(known[0], drop=known[1] or broken, reason=f"postgres: {state}")
    return Verdict(Kind.BUG, drop=broken, reason=f"postgres: {state}")


def fault_from(error: psycopg.Error, verdict: Verdict) -> PlatformError | None:
    """The platform's fault for a judged error; None for a bug, which keeps its own traceback."""
    message = f"{verdict.reason}: {_first_line(error)}"
    match verdict.kind:
        case Kind.TRANSIENT | Kind.CREDENTIAL:  # on an open connection the credential has worked: it is being rotated
            return TransientFault(message, reason=verdict.reason)
        case Kind.OVERLOAD:
            return OverloadFault(message, reason=verdict.reason)
        case Kind.POISON:
            return PoisonFault(message, reason=verdict.reason)
        case Kind.FATAL:
            return FatalFault(message, reason=verdict.reason)
        case Kind.BUG:
            return None


def _first_line(error: psycopg.Error) -> str:
    """The primary message without the quoted statement or row, which may hold payload data."""
    primary = error.diag.message_primary if error.diag else None
    return primary or (str(error).splitlines() or [type(error).__name__])[0]
