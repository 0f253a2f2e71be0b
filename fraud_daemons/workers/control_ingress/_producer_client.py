"""Talks to the gate: one kept-open connection, one POST at a time, and what its answers mean for the producer.

200                   the answers, one per event
429, 503, no answer   TransientFault; Retry-After is remembered and kept to
401                   the key is read again, once; then TransientFault, for keys are rotated
anything else         FatalFault: the gate and this producer disagree, and repeating will not help
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import orjson

from fraud_daemons.clock import Clock
from fraud_daemons.errors import FatalFault, TransientFault

RETRY_AFTER_SECONDS_MAX = 30.0
EVENTS_PATH = "/v1/events"


class GateClient:
    """One producer's way to the gate; an answer may take `answer_seconds_max`. `http.client` sets TCP_NODELAY itself."""

    def __init__(
        self,
        *,
        address: Callable[[], tuple[str, int]],
        read_key: Callable[[], str | None],
        clock: Clock,
        answer_seconds_max: float,
    ) -> None:
        self._address = address
        self._read_key = read_key
        self._clock = clock
        self._answer_seconds_max = answer_seconds_max
        self._key: str | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._not_before: tuple[float, str] | None = None

    def post(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send events; the gate's answers in their order. Raises TransientFault and FatalFault."""
        self._keep_to_retry_after()
        body = orjson.dumps(list(events))
        status, retry_after, answer = self._exchange(body)
        if status == HTTPStatus.UNAUTHORIZED:
            self._key = None
            status, retry_after, answer = self._exchange(body)
        if status == HTTPStatus.OK:
            return self._results(answer, expected=len(events))
        raise self._fault(status, retry_after, answer)

    def close(self) -> None:
        """Drop the connection; the next POST opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, body: bytes) -> tuple[int, str | None, Any]:
        key = self._key or self._read_key()
        if key is None:
            raise TransientFault("secrets.json has no gate key yet; `platform up` writes it", reason="no gate key yet")
        self._key = key
        kept_open = self._connection is not None
        try:
            return self._request(body, key)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not (
                kept_open and isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError)
            ):
                raise _no_answer(error) from error
        # a gate closes idle connections: whatever became of the request, the same again is absorbed as DUPLICATE
        try:
            return self._request(body, key)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _no_answer(error) from error

    def _request(self, body: bytes, key: str) -> tuple[int, str | None, Any]:
        if self._connection is None:
            host, port = self._address()
            self._connection = http.client.HTTPConnection(host, port, timeout=self._answer_seconds_max)
        self._connection.request(
            "POST", EVENTS_PATH, body=body, headers={"Content-Type": "application/json", "X-API-Key": key}
        )
        response = self._connection.getresponse()
        raw = response.read()
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = {"error": "no_json", "detail": f"{len(raw)} bytes that are no JSON"}
        return response.status, response.getheader("Retry-After"), answer

    def _results(self, answer: Any, *, expected: int) -> list[dict[str, Any]]:
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != expected:
            raise FatalFault("the gate answered 200 without an answer per event", reason="gate: not an ingestion gate")
        return results

    def _fault(self, status: int, retry_after: str | None, answer: Any) -> Exception:
        said = f"{answer.get('error')}: {answer.get('detail')}" if isinstance(answer, dict) else "no reason"
        reason = f"gate: {status} {said}"
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            seconds = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
            self._not_before = (self._clock.monotonic() + min(seconds, RETRY_AFTER_SECONDS_MAX), reason)
            return TransientFault(f"{reason}; sent again after {seconds:g} s", reason=reason)
        if (
            status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT)
            or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            return TransientFault(reason, reason=reason)
        return FatalFault(f"{reason}; this producer and that gate do not fit together", reason=reason)

    def _keep_to_retry_after(self) -> None:
        if self._not_before is None:
            return
        moment, reason = self._not_before
        if self._clock.monotonic() < moment:
            raise TransientFault(f"{reason}; waiting as the gate asked", reason=reason)
        self._not_before = None


def _no_answer(error: Exception) -> TransientFault:
    said = (getattr(error, "strerror", None) or type(error).__name__).lower()
    return TransientFault(f"the gate does not answer ({said}); what was sent is sent again", reason=f"gate: {said}")
