"""The fault table: which kind of fault an error is, by SQLSTATE and by the state of the connection, never by class.

Why not by class: in psycopg 25P03 and 25006 are InternalError although the first has killed the connection, while a
cancelled query and a bad password are OperationalError. A failed connect has no SQLSTATE at all: `diagnosis` finds it.
Every class of SQLSTATE that the driver knows has a row; what has none is UNKNOWN.
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


class Fate(Enum):
    """What becomes of the connection, and of the process's others to the same server."""

    KEEP = "keep"
    DROP = "drop"
    DROP_ALL = "drop all"  # the server itself has changed: the siblings are dead too, or talk to the wrong one


@dataclass(frozen=True)
class Verdict:
    """The judgement on one error: its kind, what becomes of the connection, and the words for a status line."""

    kind: Kind
    fate: Fate
    reason: str
    outcome_unknown: bool = False  # the server itself cannot say whether the transaction took place


_Row = tuple[Kind, Fate]
UNKNOWN: _Row = (Kind.BUG, Fate.DROP)
"""A code of a class that the table does not know: nobody foresaw it, so it is told as a bug, on a fresh connection."""

# The whole code wins over its class (the first two characters).
_BY_SQLSTATE: dict[str, _Row] = {
    # not errors, or misuse of the protocol and of SQL by our own code: a traceback is what helps
    "00": (Kind.BUG, Fate.KEEP),
    "01": (Kind.BUG, Fate.KEEP),
    "02": (Kind.BUG, Fate.KEEP),
    "03": (Kind.BUG, Fate.DROP),
    "09": (Kind.BUG, Fate.KEEP),
    "0B": (Kind.BUG, Fate.DROP),
    "0F": (Kind.BUG, Fate.KEEP),
    "0Z": (Kind.BUG, Fate.KEEP),
    "10": (Kind.BUG, Fate.KEEP),
    "20": (Kind.BUG, Fate.KEEP),
    "24": (Kind.BUG, Fate.DROP),
    "25": (Kind.BUG, Fate.DROP),  # 25P02 among them: a statement in a failed transaction
    "27": (Kind.BUG, Fate.KEEP),
    "2D": (Kind.BUG, Fate.DROP),
    "2F": (Kind.BUG, Fate.KEEP),
    "34": (Kind.BUG, Fate.DROP),
    "38": (Kind.BUG, Fate.KEEP),
    "39": (Kind.BUG, Fate.KEEP),
    "3B": (Kind.BUG, Fate.DROP),
    "HV": (Kind.BUG, Fate.KEEP),  # foreign tables: we have none
    "P0": (Kind.BUG, Fate.KEEP),  # raised by a function: ours raise nothing of this class
    # the connection, the server or the transaction; the same work succeeds later
    "08": (Kind.TRANSIENT, Fate.DROP),
    "0A": (Kind.TRANSIENT, Fate.DROP),  # cached plan must not change result type: a fresh connection has no plans
    "25006": (Kind.TRANSIENT, Fate.DROP_ALL),  # read only after a failover: connect anew to find the new primary
    "25P03": (Kind.TRANSIENT, Fate.DROP),  # idle in transaction, killed by the server
    "25P04": (Kind.TRANSIENT, Fate.DROP),
    "26": (Kind.TRANSIENT, Fate.DROP),  # prepared statement gone (pooler)
    "40": (Kind.TRANSIENT, Fate.KEEP),
    "40003": (Kind.TRANSIENT, Fate.DROP),
    "42P05": (Kind.TRANSIENT, Fate.DROP),  # prepared statement there already (pooler)
    "53": (Kind.TRANSIENT, Fate.KEEP),
    "55": (Kind.TRANSIENT, Fate.KEEP),
    "57": (Kind.TRANSIENT, Fate.DROP),
    "57P01": (Kind.TRANSIENT, Fate.DROP_ALL),
    "57P02": (Kind.TRANSIENT, Fate.DROP_ALL),
    "58": (Kind.TRANSIENT, Fate.DROP),
    "72": (Kind.TRANSIENT, Fate.KEEP),  # snapshot too old: a younger one will do
    "XX": (Kind.TRANSIENT, Fate.DROP),
    # less at once will pass
    "53200": (Kind.OVERLOAD, Fate.KEEP),
    "54": (Kind.OVERLOAD, Fate.KEEP),
    "57014": (Kind.OVERLOAD, Fate.KEEP),  # statement timeout
    # one record is wrong; halving the batch finds it
    "21": (Kind.POISON, Fate.KEEP),  # one key twice in one statement: alone each passes
    "22": (Kind.POISON, Fate.KEEP),
    "23": (Kind.POISON, Fate.KEEP),
    "40002": (Kind.POISON, Fate.KEEP),
    "44": (Kind.POISON, Fate.KEEP),
    # no retry can help until somebody changes something
    "0L": (Kind.FATAL, Fate.KEEP),
    "0P": (Kind.FATAL, Fate.KEEP),
    "2B": (Kind.FATAL, Fate.KEEP),
    "3D": (Kind.FATAL, Fate.DROP),
    "3F": (Kind.FATAL, Fate.KEEP),
    "42": (Kind.FATAL, Fate.KEEP),  # missing table or column, privilege, syntax: schema and code disagree
    "55P02": (Kind.FATAL, Fate.KEEP),
    "57P04": (Kind.FATAL, Fate.DROP),  # the database was dropped
    "F0": (Kind.FATAL, Fate.DROP),
    "XX001": (Kind.FATAL, Fate.DROP),  # corrupted data, corrupted index: going on could make it worse
    "XX002": (Kind.FATAL, Fate.DROP),
    "28": (Kind.CREDENTIAL, Fate.DROP),
}
_OUTCOME_UNKNOWN = ("08007", "40003")

# What a code means when the server says it to a connect; otherwise as above.
_AT_CONNECT: dict[str, Kind] = {
    "0A000": Kind.FATAL,  # a protocol or an option that this server does not have
    "22023": Kind.FATAL,  # a session option with a value it refuses
    "57P04": Kind.TRANSIENT,  # dropped under a connect: made anew, or 3D000 next time
}

# What libpq or the driver says of its own accord, in English whatever the server speaks:
# (words in the message, SQLSTATE or short name, kind).
_BY_LOCAL_TEXT: tuple[tuple[str, str, Kind], ...] = (
    ("no password supplied", "28P01", Kind.CREDENTIAL),
    ("connection refused", "refused", Kind.TRANSIENT),
    ("no such file or directory", "refused", Kind.TRANSIENT),
    ("cannot assign requested address", "ports exhausted", Kind.TRANSIENT),
    ("address already in use", "ports exhausted", Kind.TRANSIENT),
    ("too many open files", "files exhausted", Kind.TRANSIENT),
    ("failed to resolve host", "host unknown", Kind.TRANSIENT),
    ("could not translate host name", "host unknown", Kind.TRANSIENT),
    ("no route to host", "unreachable", Kind.TRANSIENT),
    ("network is unreachable", "unreachable", Kind.TRANSIENT),
    ("session is read-only", "25006", Kind.TRANSIENT),  # target_session_attrs: no primary among the hosts yet
    ("server is in hot standby mode", "25006", Kind.TRANSIENT),
    ("certificate verify failed", "certificate refused", Kind.FATAL),
    ("server certificate for", "certificate refused", Kind.FATAL),
    ("root certificate file", "certificate missing", Kind.FATAL),
)
# What a server says in English, for a diagnosis that came too late: the server had gone, or taken us, by then.
_BY_SERVER_TEXT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("password authentication failed",), "28P01"),
    (("no pg_hba.conf entry",), "28000"),
    (("is not permitted to log in",), "28000"),
    (("role ", "does not exist"), "28000"),
    (("too many clients",), "53300"),
    (("remaining connection slots",), "53300"),
    (("too many connections",), "53300"),
    (("is starting up",), "57P03"),
    (("is shutting down",), "57P03"),
    (("in recovery mode",), "57P03"),
    (("accepting connections",), "57P03"),
    (("database ", "does not exist"), "3D000"),
)


def local_cause(error: psycopg.Error) -> Verdict | None:
    """The verdict on a failed connect when our own side of it says why; None when the server knows and was not quoted."""
    if isinstance(error, psycopg.ProgrammingError):
        return Verdict(Kind.FATAL, Fate.DROP, "postgres: malformed DSN")
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return Verdict(Kind.TRANSIENT, Fate.DROP, "postgres: connect timeout")
    # of several addresses the last one speaks; the driver lists the others after it
    text = str(error).lower().partition("multiple connection attempts failed")[0]
    for words, name, kind in _BY_LOCAL_TEXT:
        if words in text:
            return Verdict(kind, Fate.DROP, f"postgres: {name}")
    return None


def judge_connect(error: psycopg.Error, sqlstate: str | None) -> Verdict:
    """Judge an error raised by connecting; `sqlstate` = what the diagnosis found, if anything."""
    if (local := local_cause(error)) is not None:
        return local
    text = str(error).lower()
    said = (code for words, code in _BY_SERVER_TEXT if all(word in text for word in words))
    state = sqlstate or next(said, None)
    if state is None:
        return Verdict(Kind.TRANSIENT, Fate.DROP, "postgres: cannot connect")
    kind = _AT_CONNECT.get(state) or row_of(state)[0]
    if kind in (Kind.OVERLOAD, Kind.POISON, Kind.BUG):
        kind = Kind.TRANSIENT  # there is no work yet that could be halved, nor code of ours that could be wrong
    return Verdict(kind, Fate.DROP, f"postgres: {state}")


def judge(error: psycopg.Error, *, broken: bool) -> Verdict:
    """Judge an error raised by a statement; `broken` = the connection is closed or in a bad state."""
    state = error.sqlstate
    if isinstance(error, NoAnswer):  # whatever stalled this link stalls its siblings
        return Verdict(Kind.TRANSIENT, Fate.DROP_ALL, "postgres: no answer")
    if state is None:
        if broken or isinstance(error, psycopg.OperationalError):
            return Verdict(Kind.TRANSIENT, Fate.DROP, "postgres: connection lost")
        if isinstance(error, psycopg.DataError):
            return Verdict(Kind.POISON, Fate.KEEP, "postgres: value does not fit its type")
        return Verdict(Kind.BUG, Fate.DROP, f"postgres: {type(error).__name__}")
    kind, fate = row_of(state)
    if broken and fate is Fate.KEEP:
        fate = Fate.DROP
    return Verdict(kind, fate, f"postgres: {state}", outcome_unknown=state in _OUTCOME_UNKNOWN)


def row_of(sqlstate: str) -> _Row:
    """The table's row for a code: its own, its class's, or UNKNOWN."""
    return _BY_SQLSTATE.get(sqlstate) or _BY_SQLSTATE.get(sqlstate[:2]) or UNKNOWN


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
