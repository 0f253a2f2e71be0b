"""The hook over a real HTTP receiver: told once when a worker is in trouble too long, once more when it is over."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fraud_daemons.errors import ConfigurationError
from fraud_daemons.status.picture import ProcessState
from tests.console import open_console
from tests.line import Line

KEY = "key-of-the-hook"
HELD = ProcessState("decision_fabric", "decision_lane", "exited", exit_code=78, reason="config: no such policy")
RESTARTING = ProcessState("decision_fabric", "decision_lane", "backoff", reason="exit 70 after 1 s")


class Receiver:
    """A real receiver on loopback; `refusals` = how many calls it answers with 503 first."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.refusals = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append((dict(self.headers), body))
                refused = receiver.refusals > 0
                receiver.refusals -= refused
                self.send_response(503 if refused else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, calls: int) -> list[dict[str, Any]]:
        """The bodies, when `calls` have come."""
        deadline = time.monotonic() + 10
        while len(self.calls) < calls and time.monotonic() < deadline:
            time.sleep(0.01)
        return [json.loads(body) for _, body in self.calls]

    def stays_at(self, calls: int) -> bool:
        time.sleep(0.3)
        return len(self.calls) == calls


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of its own."""
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def settings(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"alerts.hook_url": receiver.url, "alerts.hook_after_seconds": 30.0, **more}


def test_a_held_worker_is_told_at_once_and_once_and_its_end_too(line: Line, receiver: Receiver) -> None:
    """Held: one signed message at the first look, none at the next; ready again: one message with the same alert id."""
    with open_console(line, settings=settings(receiver)) as console:
        status = console.activities[0]
        good = console.processes["decision_fabric"]
        status.step()
        console.processes["decision_fabric"] = HELD
        for _ in range(3):
            status.step()
        (told,) = receiver.wait(1)
        assert (told["kind"], told["worker"], told["status"]) == ("worker_in_trouble", "decision_fabric", "held")
        assert told["reason"] == "config: no such policy"
        console.processes["decision_fabric"] = good
        for _ in range(3):
            status.step()
        _, over = receiver.wait(2)
        assert (over["kind"], over["alert_id"], over["status"]) == (
            "worker_recovered",
            told["alert_id"],
            "running ready",
        )
        assert receiver.stays_at(2)
    headers, body = receiver.calls[0]
    signed = headers["X-Webhook-Timestamp"].encode() + b"." + body
    assert headers["X-Webhook-Signature"] == "sha256=" + hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["Idempotency-Key"].startswith(told["alert_id"])


def test_who_is_in_trouble_for_a_moment_is_not_told(line: Line, receiver: Receiver) -> None:
    """Trouble shorter than alerts.hook_after_seconds is nobody's business; a crash loop that lasts is told once, although the
    process starts again and again meanwhile."""
    starting = ProcessState("decision_fabric", "decision_lane", "running", pid=1, uptime_seconds=1.0)
    with open_console(line, settings=settings(receiver)) as console:
        status, good = console.activities[0], console.processes["decision_fabric"]
        console.processes["decision_fabric"] = RESTARTING
        status.step()
        line.clock.advance(29)
        status.step()
        console.processes["decision_fabric"] = good
        status.step()
        assert receiver.stays_at(0)
        for _ in range(5):
            console.processes["decision_fabric"] = RESTARTING
            status.step()
            line.clock.advance(8)
            console.processes["decision_fabric"] = starting
            status.step()
        told = receiver.wait(1)
        assert [each["status"] for each in told] == ["running failing"]
        assert told[0]["since_seconds"] >= 30
        assert receiver.stays_at(1)


def test_a_restart_of_the_console_tells_nothing_twice(line: Line, receiver: Receiver) -> None:
    """What was told is remembered over a restart: no second message, and the end still comes."""
    with open_console(line, settings=settings(receiver)) as console:
        console.processes["decision_fabric"] = HELD
        console.activities[0].step()
        receiver.wait(1)
    with open_console(line, settings=settings(receiver)) as console:
        good = console.processes["decision_fabric"]
        console.processes["decision_fabric"] = HELD
        console.activities[0].step()
        assert receiver.stays_at(1)
        console.processes["decision_fabric"] = good
        console.activities[0].step()
        assert [each["kind"] for each in receiver.wait(2)] == ["worker_in_trouble", "worker_recovered"]


def test_a_receiver_that_is_not_ready_is_asked_again_under_the_same_key(line: Line, receiver: Receiver) -> None:
    """503 is tried again; every attempt has one Idempotency-Key, and the end does not overtake the beginning."""
    receiver.refusals = 2
    with open_console(line, settings=settings(receiver)) as console:
        good = console.processes["decision_fabric"]
        console.processes["decision_fabric"] = HELD
        console.activities[0].step()
        console.processes["decision_fabric"] = good
        console.activities[0].step()
        bodies = receiver.wait(4)
    assert [body["kind"] for body in bodies] == ["worker_in_trouble"] * 3 + ["worker_recovered"]
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.calls}) == 2


def test_a_hook_url_that_is_none_is_refused_by_name(line: Line) -> None:
    """A bad URL, or one with credentials in it, is a configuration fault that names the setting and quotes nothing."""
    for url in ("not a url", "ftp://host/x", "http://user:secret@host/"):
        with (
            pytest.raises(ConfigurationError, match=r"alerts\.hook_url") as refused,
            open_console(line, settings={"alerts.hook_url": url}),
        ):
            pass
        assert "secret" not in str(refused.value)
