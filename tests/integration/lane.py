"""Flows, intents and a webhook receiver for the tests of the decision lane."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fraud_daemons.domain import features
from fraud_daemons.domain.actions import intent_id
from fraud_daemons.domain.decisions import decision_id
from fraud_daemons.runtime.activity import Activity
from tests.line import Line
from tests.unit.made_records import ORDINARY_FEATURES, bound_record

SIGNING_KEY = "a-signing-key-of-a-test"


def flow(number: int, *, cards: int = 5, **changes: Any) -> dict[str, Any]:
    """A bound record of its own; `cards` spreads flows over keys and so over partitions."""
    traffic = {**bound_record()["traffic"], "flow_id": f"flow{number}", **changes.pop("traffic", {})}
    return bound_record(
        **{
            "flow_id": f"flow{number}",
            "event_id": f"event{number}",
            "source_seq": number,
            "card_token": f"card{number % cards}",
            "traffic": traffic,
            **changes,
        }
    )


def featured(bound: dict[str, Any], place: tuple[int, int] | None, **changed: Any) -> dict[str, Any]:
    """The record of the feature plane for a bound record that stands at `place`."""
    vector = {**ORDINARY_FEATURES, "amount_minor": bound["traffic"]["amount_minor"], **changed}
    return {
        **bound,
        "features": vector,
        "feature_status": "PRESENT",
        "feature_revision": "f-test",
        "snapshot_hash": features.snapshot_hash(vector, "f-test"),
        "bound_position": list(place or (0, 0)),
    }


def bind(line: Line, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Append bound records; returns their featured records, not yet appended."""
    places = line.append("flows.bound", bodies)
    return [featured(body, place) for body, place in zip(bodies, places, strict=True)]


def intent(line: Line, number: int, *, action: str = "hold_for_review", **changes: Any) -> dict[str, Any]:
    """An intent as decision_fabric asks for it."""
    decision = decision_id(line.run, f"flow{number}")
    return {
        "intent_id": intent_id(decision, action),
        "decision_id": decision,
        "flow_id": f"flow{number}",
        "platform_run_id": line.run,
        "action": action,
        "origin": "policy:baseline",
        "parameters": {"outcome": "REVIEW", "card_token": f"card{number % 5}", "amount_minor": 2500, "currency": "USD"},
        "requested_at": "2026-01-01T00:00:00.000000Z",
        **changes,
    }


def pin(line: Line, mode: str) -> None:
    """Pin a posture as the operator would."""
    line.sql(
        "insert into control.posture_pins (mode, reason, pinned_by, pinned_at) values (%s, 'test', 'test', now())",
        (mode,),
    )


@dataclass
class Receiver:
    """A webhook receiver with its own journal; `answer` decides on status and delay per call."""

    url: str = ""
    journal: list[tuple[str, bytes, bool]] = field(default_factory=list)
    """(idempotency key, body, signature holds) of every call, repeats included."""
    answer: Callable[[str, int], tuple[int, float]] = lambda _key, _nth: (204, 0.0)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counted(self) -> dict[str, int]:
        """Calls per intent."""
        counts: dict[str, int] = {}
        for key, _, _ in list(self.journal):
            counts[key] = counts.get(key, 0) + 1
        return counts


@contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    """A real HTTP server on loopback."""
    receiver = Receiver()

    class Post(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            announced = int(self.headers["Content-Length"])
            body = self.rfile.read(announced)
            if len(body) < announced:  # the caller was killed while it spoke: half a request is none
                self.close_connection = True
                return
            key, timestamp = self.headers["Idempotency-Key"], self.headers["X-Webhook-Timestamp"]
            expected = hmac.new(SIGNING_KEY.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
            with receiver.lock:
                nth = receiver.counted().get(key, 0) + 1
                receiver.journal.append((key, body, self.headers["X-Webhook-Signature"] == f"sha256={expected}"))
            status, delay = receiver.answer(key, nth)
            time.sleep(delay)
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # the caller was killed or gave up

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Post)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def step_until(
    line: Line,
    activities: Sequence[Activity],
    done: Callable[[], bool],
    *,
    advance_seconds: float = 0.0,
    seconds: float = 20.0,
) -> None:
    """Turn activities that have threads of their own until `done`; the manual clock moves `advance_seconds` a round."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "not done in time"
        for activity in activities:
            activity.step()
        line.clock.advance(advance_seconds)
        time.sleep(0.005)
