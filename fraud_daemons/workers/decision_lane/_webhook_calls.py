"""Signed HTTP calls on a fixed number of threads, so that a slow receiver stops nobody but itself.

A call is a POST to the one configured URL; redirects are not followed, since they lead somewhere else. The threads do
HTTP and nothing else: no database, no clock. What they found is collected by the loop's thread.

Every call carries
    Idempotency-Key       the intent_id, equal in every attempt: by it the receiver knows a repeat
    X-Webhook-Timestamp   seconds since the epoch
    X-Webhook-Signature   sha256=<hex HMAC-SHA256 of "<timestamp>.<body>" under the signing key>
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import os
import queue
import re
import socket
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from fraud_daemons.state.actions import Pending

CALLS_AT_ONCE_MAX = 4
ANSWER_BYTES_MAX = 4096  # read and dropped: the status is the answer
_RETRIED_STATUS = (408, 429)


class Result(Enum):
    """What a call came to."""

    DELIVERED = "delivered"  # 2xx
    REFUSED = "refused"  # the receiver understood and said no: asking again would not help
    FAILED = "failed"  # no answer, or one that says: later


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one call."""

    pending: Pending
    result: Result
    detail: str


@dataclass(frozen=True)
class Receiver:
    """Where calls go; parsed and checked once."""

    secure: bool
    host: str
    port: int | None
    target: str


@dataclass(eq=False)
class Call:
    """One call in flight. `abort` may be used from another thread when it is overdue."""

    pending: Pending
    body: bytes
    headers: Mapping[str, str]
    begun: float
    connection: http.client.HTTPConnection | None = field(default=None)

    def abort(self) -> None:
        """Cut the socket: each wait of a call is bounded by itself, only this bounds their sum."""
        live = self.connection.sock if self.connection is not None else None
        if live is not None:
            with contextlib.suppress(OSError):  # it may just have ended by itself
                live.shutdown(socket.SHUT_RDWR)


def parse_receiver(url: str) -> Receiver | str:
    """The receiver behind `url`, or the sentence that says what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be an http:// or https:// URL with a host"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must hold neither credentials nor a fragment; calls are signed instead"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if re.search(r"[^\x21-\x7e]", url):
        return "must be plain printable ASCII without spaces"
    return Receiver(parts.scheme == "https", parts.hostname, port, target)


def signed_headers(body: bytes, *, idempotency_key: str, timestamp: int, signing_key: str) -> dict[str, str]:
    """The headers of a call."""
    signature = hmac.new(signing_key.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "fraud-daemons",
        "Idempotency-Key": idempotency_key,
        "X-Webhook-Timestamp": str(timestamp),
        "X-Webhook-Signature": f"sha256={signature}",
    }


class Callers:
    """A fixed number of threads that make calls; started by the first call, ended by `close`."""

    def __init__(self, receiver: Receiver, *, timeout_seconds: float) -> None:
        self._receiver = receiver
        self._timeout = timeout_seconds
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)

    def hand_over(self, call: Call) -> None:
        """Make this call as soon as a thread is free."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._serve, name=f"webhook-{n}", daemon=True) for n in range(CALLS_AT_ONCE_MAX)
            ]
            for thread in self._threads:
                thread.start()
        self._calls.put(call)

    def answers(self, *, wait_seconds: float = 0.0) -> list[Answer]:
        """What has come back; waits up to `wait_seconds` for the first."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)  # before the queue: what comes between the two wakes us again
        found: list[Answer] = []
        if wait_seconds > 0:
            with contextlib.suppress(queue.Empty):
                found.append(self._answers.get(timeout=wait_seconds))
        while not self._answers.empty():  # ours is the only reader
            found.append(self._answers.get_nowait())
        return found

    def wake_file(self) -> int:
        """Readable when an answer has come."""
        return self._bell

    def close(self) -> None:
        """Let the threads end after the call in hand; they are daemons, so none holds the process."""
        for _ in self._threads:
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            self._answers.put(self._make(call))
            with contextlib.suppress(OSError):  # a bell that rings already wakes as well
                os.eventfd_write(self._bell, 1)

    def _make(self, call: Call) -> Answer:
        kind = http.client.HTTPSConnection if self._receiver.secure else http.client.HTTPConnection
        call.connection = connection = kind(self._receiver.host, self._receiver.port, timeout=self._timeout)
        try:
            connection.request("POST", self._receiver.target, body=call.body, headers=dict(call.headers))
            response = connection.getresponse()
            response.read(ANSWER_BYTES_MAX)
            return _judged(call.pending, response.status)
        except Exception as error:  # whatever it was, an answer must come back, or the intent would wait for ever
            return Answer(call.pending, Result.FAILED, f"no answer ({type(error).__name__})")
        finally:
            connection.close()


def _judged(pending: Pending, status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(pending, Result.DELIVERED, f"HTTP {status}")
    if 300 <= status < 400:
        return Answer(pending, Result.REFUSED, f"HTTP {status}: redirects are not followed")
    if 400 <= status < 500 and status not in _RETRIED_STATUS:
        return Answer(pending, Result.REFUSED, f"HTTP {status}")
    return Answer(pending, Result.FAILED, f"HTTP {status}")
