"""Why a connect failed: a second one, watched.

libpq reports a failed connect as text, in the server's language, without SQLSTATE; but its protocol trace carries the
server's ErrorResponse, and with it the code. So this connects again with the trace on, reads the code and closes. The
trace holds the login's exchange: it goes to anonymous memory, never to a disk, and nothing of it but the code is kept.
It refuses to decide how often: `connecting` does.
"""

from __future__ import annotations

import os
import re
import select
import tempfile
import time
from dataclasses import dataclass

import psycopg
from psycopg import pq

TRACE_BYTES_MAX = 65_536
_ERROR_RESPONSE = re.compile(rb'^B\t\d+\tErrorResponse\t .*?\bC "([0-9A-Z]{5})"', re.MULTILINE)


@dataclass(frozen=True)
class Diagnosis:
    """What the second connect met."""

    sqlstate: str | None = None  # None: the server took it this time, said nothing in time, or was not reached
    said: str = ""  # libpq's words for it


def diagnose(conninfo: str, *, seconds_max: float) -> Diagnosis:
    """Connect once more, for at most `seconds_max`. Raises nothing: whoever asks has a failed connect in hand already."""
    trace = _anonymous_file()
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        if connection.status == pq.ConnStatus.BAD:
            return Diagnosis()
        connection.trace(trace)
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        taken = _poll_to_the_end(connection, seconds_max)
        connection.untrace()
        codes = _ERROR_RESPONSE.findall(os.pread(trace, TRACE_BYTES_MAX, 0))
        # of several hosts in a DSN the last one speaks
        if not codes or taken:
            return Diagnosis()
        return Diagnosis(codes[-1].decode(), connection.get_error_message().strip())
    except (psycopg.Error, OSError, ValueError):
        return Diagnosis()
    finally:
        connection.finish()
        os.close(trace)


def _poll_to_the_end(connection: pq.abc.PGconn, seconds_max: float) -> bool:
    """Drive the handshake; True when the server took us."""
    ends = time.monotonic() + seconds_max
    state = pq.PollingStatus.WRITING  # libpq: a connection that has just begun is to be treated so
    while state in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
        waits_for = select.POLLIN if state == pq.PollingStatus.READING else select.POLLOUT
        poll = select.poll()
        poll.register(connection.socket, waits_for)
        if not poll.poll(max(0.0, ends - time.monotonic()) * 1000):
            return False
        state = pq.PollingStatus(connection.connect_poll())
    return state == pq.PollingStatus.OK


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("postgres_diagnosis", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # no name either, where there is no memory file
        return os.dup(file.fileno())
