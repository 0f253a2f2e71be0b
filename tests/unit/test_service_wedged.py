"""A service that answers nobody any more is a bug of its process; one that answers anybody is only slow."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from fraud_daemons.errors import TransientFault
from fraud_daemons.runtime import service
from fraud_daemons.runtime.service import UNANSWERED_PROBES_MAX, HttpService

HOST = "127.0.0.1"


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[HttpService, int, threading.Event]]:
    """A real service of one thread that hangs in its health check until told to go on."""
    monkeypatch.setattr(service, "PROBE_TIMEOUT_SECONDS", 0.05)
    go_on = threading.Event()
    go_on.set()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/healthz":
            go_on.wait(30)
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    made = HttpService(app, host=HOST, port=port, threads=2, body_bytes_max=1024, health_path="/healthz")
    made.step()
    go_on.clear()
    yield made, port, go_on
    go_on.set()
    made.close()


def _probe(made: HttpService, times: int) -> list[str]:
    """What so many probes in a row raised."""
    raised = []
    for _ in range(times):
        try:
            made.step()
        except (TransientFault, RuntimeError) as error:
            raised.append(type(error).__name__)
    return raised


def test_a_service_that_answers_nobody_is_a_bug_after_a_while(
    stuck: tuple[HttpService, int, threading.Event],
) -> None:
    """So many probes are borne as an outage of its own; from then on it is told as what it is, until it answers again."""
    made, _, go_on = stuck
    assert _probe(made, UNANSWERED_PROBES_MAX) == ["TransientFault"] * UNANSWERED_PROBES_MAX
    assert _probe(made, 2) == ["RuntimeError"] * 2
    go_on.set()
    for _ in range(50):  # the probes that wait inside are answered first
        if not _probe(made, 1):
            break
    assert _probe(made, 1) == []


def test_a_service_that_answers_somebody_is_only_slow(stuck: tuple[HttpService, int, threading.Event]) -> None:
    """Its health check hangs and other requests are answered: no bug, however long it lasts."""
    made, port, _ = stuck
    raised = _probe(made, 1)  # takes one of the two threads
    for _ in range(UNANSWERED_PROBES_MAX + 5):
        connection = HTTPConnection(HOST, port, timeout=5)
        made._answers["200"] += 1  # somebody was answered on another thread
        connection.close()
        raised += _probe(made, 1)
    assert set(raised) == {"TransientFault"}
