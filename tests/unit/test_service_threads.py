"""Which thread of a service gets the next request."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from fraud_daemons.errors import TransientFault
from fraud_daemons.runtime.service import HttpService

HOST, THREADS = "127.0.0.1", 4


class Threads:
    """A real service that notes who answers; requests to /hold wait until they are let go."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.by: list[str] = []
        self.held = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.started: list[str] = []
        self.service = HttpService(
            self._answer,
            host=HOST,
            port=port,
            threads=THREADS,
            body_bytes_max=1024,
            health_path="/healthz",
            at_start=self._start,
        )

    def _start(self) -> None:
        self.started.append(threading.current_thread().name)
        raise TransientFault("the database is away", reason="test: away")

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/hold":
            self.held.release()
            self.let_go.wait(30)
        self.by.append(threading.current_thread().name)
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    def ask(self, path: str = "/") -> None:
        connection = HTTPConnection(HOST, self.port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()


@pytest.fixture
def threads() -> Iterator[Threads]:
    with socket.socket() as free:
        free.bind((HOST, 0))
        made = Threads(free.getsockname()[1])
    made.service.step()
    yield made
    made.let_go.set()
    made.service.close()


def test_one_request_at_a_time_stays_with_one_thread(threads: Threads) -> None:
    """Who has just answered is next: a thread has a database session of its own, and that one's memory is warm."""
    dispatcher = threads.service._server.task_dispatcher
    for _ in range(20):
        while dispatcher.active_count:
            time.sleep(0.001)  # it goes to rest a moment after the answer is out
        threads.ask()
    assert len(set(threads.by[-20:])) == 1


def test_as_many_requests_at_once_as_there_are_threads_all_have_one(threads: Threads) -> None:
    """Whatever befell them at their start; what comes beyond them waits for the first that is free."""
    asking = [threading.Thread(target=threads.ask, args=("/hold",)) for _ in range(THREADS)]
    for one in asking:
        one.start()
    for _ in asking:
        assert threads.held.acquire(timeout=30)
    late = threading.Thread(target=threads.ask)
    late.start()
    time.sleep(0.1)
    assert late.is_alive(), "all threads are taken"
    threads.let_go.set()
    for one in [*asking, late]:
        one.join(30)
    assert set(threads.by[-THREADS - 1 :]) == set(threads.started)
    assert len(threads.started) == THREADS
