"""Whether the object store answers, asked in a thread of its own so that a frozen store does not hold up the ladder.

Any HTTP answer counts, a refusal too: whether the keys and the bucket are right is environment_conformance's question.
"""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import Future
from typing import Final
from urllib.parse import urlsplit

from fraud_daemons.clock import Clock
from fraud_daemons.runtime.worker import WorkerContext

ANSWER_SECONDS: Final = 0.4
"""A question that is not answered for this long is a bad look; the answer may still come and end that."""

TIMEOUT_SECONDS: Final = 1.5
REST_SECONDS: Final = 0.4


def endpoint_of(context: WorkerContext) -> str:
    """Where the profile's store listens."""
    own: str = context.profile.get("objectstore.endpoint")
    return own or f"http://127.0.0.1:{context.port_of('objectstore')}"


def ask(endpoint: str) -> str | None:
    """One question; None when there is an answer, else why not."""
    parts = urlsplit(endpoint)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return f"the object store gives no answer: {type(error).__name__}"
    finally:
        connection.close()
    return None


class StoreProbe:
    """Called once per look; at most one question is under way."""

    def __init__(self, endpoint: str, *, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._asked_at = -REST_SECONDS
        self._question: Future[str | None] | None = None
        self._problem: str | None = None

    def __call__(self) -> str | None:
        """None while the store answers, else what is wrong."""
        now = self._clock.monotonic()
        if self._question is not None and self._question.done():
            self._problem, self._question = self._question.result(), None
        if self._question is None:
            if now - self._asked_at >= REST_SECONDS:
                self._asked_at, self._question = now, self._begin()
            return self._problem
        if now - self._asked_at > ANSWER_SECONDS:
            return self._problem or f"the object store gives no answer within {ANSWER_SECONDS:g} s"
        return self._problem

    def _begin(self) -> Future[str | None]:
        question: Future[str | None] = Future()

        def work() -> None:
            try:
                question.set_result(ask(self._endpoint))
            except BaseException as error:
                question.set_exception(error)

        threading.Thread(target=work, name="store-probe", daemon=True).start()
        return question
