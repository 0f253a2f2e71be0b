"""Takes STREAM_READY messages on: each becomes one row of wsp.streams, however often it is told.

What is not a request that can be carried out is set aside with its reason, and so is another request under an id that
is taken: the first one stands. It starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.errors import PoisonFault
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import streams

STREAM_READY: Final = "STREAM_READY"
REQUESTED_AT: Final = "requested_at"
"""When somebody asked is no part of what was asked for."""


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


def _count(value: Any) -> bool:
    return value is None or (type(value) is int and value > 0)


def _pace(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < float("inf"))


_FIELDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "stream_id": (_text, "a text of 1 to 64 characters"),
    "platform_run_id": (_text, "a text of 1 to 64 characters"),
    "world": (_text, "a text of 1 to 64 characters"),
    "from": (lambda value: value in ("cursor", "start"), "'cursor' or 'start'"),
    "max_events_per_output": (_count, "a whole number above 0, or null"),
    "rate": (_pace, "a number above 0, or null"),
    "speedup": (_pace, "a number above 0, or null"),
}


class StreamRequests(StatelessHandler):
    """Other kinds on the topic are for others."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        requests = [request for record in records if (request := _request_of(record)) is not None]
        if not requests:
            return
        streams.accept(unit.connection, requests, at=unit.now)
        kept = streams.requests(unit.connection, [request["stream_id"] for request in requests])
        for request in requests:
            if _asked(kept[request["stream_id"]]) != _asked(request):
                raise PoisonFault(
                    f"stream {request['stream_id']} was asked for with another content; the first request stands",
                    reason="STREAM_READY differs from the first of its id",
                )


def _request_of(record: Record) -> dict[str, Any] | None:
    """The request in a record, None for another kind. Raises PoisonFault."""
    try:
        message = orjson.loads(record.body)
    except orjson.JSONDecodeError as error:
        raise PoisonFault(f"{record.topic} {record.partition}/{record.position} is no JSON: {error}",
                          reason="control: no JSON") from error  # fmt: skip
    if not isinstance(message, dict) or message.get("kind") != STREAM_READY:
        return None
    wrong = [f"{name} must be {right}" for name, (good, right) in _FIELDS.items() if not good(message.get(name))]
    if message.get("rate") and message.get("speedup"):
        wrong.append("rate and speedup exclude each other")
    if wrong:
        raise PoisonFault(f"STREAM_READY: {'; '.join(wrong)}", reason=f"STREAM_READY: {wrong[0]}")
    return message


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != REQUESTED_AT and value is not None}
