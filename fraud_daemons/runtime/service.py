"""HTTP with a FIXED number of threads: a thread per request with a thread-local connector *is* the incident.

The server runs beside the worker's loop; the loop beats only after a request through the service's own socket, so a
wedged service cannot look alive.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from fraud_daemons.config.ports import port_holder
from fraud_daemons.errors import FatalFault, TransientFault
from fraud_daemons.runtime.activity import Outcome, PlainActivity

PROBE_INTERVAL_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 3.0
UNANSWERED_PROBES_MAX = 10
"""So many in a row, while nobody else got an answer either: it will not come back by itself. At 3 s each and the loop's pauses
between, about half a minute; a service that answers anybody is only slow."""
CONNECTIONS_MAX = 200
PORTS_TRIED_MAX = 20
RECEIVED_BYTES_MAX = 128 * 1024
"""At a time: a batch comes in two pieces, where the server's default of 8 KB makes thirty turns of its loop."""
DRAIN_SECONDS = 5.0
CLOSE_SECONDS = 1.0

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class HttpService(PlainActivity):
    """Serves `app` on host:port with `threads` threads; as an activity it opens the port and probes itself.

    `at_start` is what each thread does before its first request, such as opening its database session; a fault leaves it undone.
    `another_port` is asked when the port is taken: another one to try, or None when it may be no other.
    """

    def __init__(
        self,
        app: WsgiApp,
        *,
        host: str,
        port: int,
        threads: int,
        body_bytes_max: int,
        health_path: str,
        detail: Callable[[], dict[str, Any]] = dict,
        at_start: Callable[[], None] = lambda: None,
        another_port: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        self.name = "http"
        self._app = self._counted(app)
        self._host = host
        self._port = port
        self._another_port = another_port
        self._threads = threads
        self._body_bytes_max = body_bytes_max
        self._health_path = health_path
        self._detail = detail
        self._at_start = at_start
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._answers: Counter[str] = Counter()
        self._unanswered, self._answered_before = 0, 0
        self._sockets: dict[int, Any] = {}
        """The server's own map: its port, its wake-up and its connections."""

    def step(self) -> Outcome:
        if self._server is None:
            self._open()
        self._probe()
        return Outcome(rest_seconds=PROBE_INTERVAL_SECONDS)

    def queued(self) -> int:
        """Requests that have come in and wait for a thread."""
        return len(self._server.task_dispatcher.queue) if self._server is not None else 0

    def detail(self) -> dict[str, Any]:
        """Answers by status since the process began, and the app's own `detail`, for the heartbeat; the probe counts too."""
        return {"http_answers": dict(self._answers), **self._detail()}

    def _counted(self, app: WsgiApp) -> WsgiApp:
        def counting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            def start(status: str, *rest: Any) -> Any:
                self._answers[status[:3]] += 1  # two threads at once may lose one: a gauge of pressure, not a ledger
                return start_response(status, *rest)

            return app(environ, start)

        return counting

    def close(self) -> None:
        """Let requests in hand finish, then close the port and every connection that has nothing left to say."""
        if self._server is None:
            return
        self._server.task_dispatcher.shutdown(cancel_pending=False, timeout=DRAIN_SECONDS)
        closed = threading.Event()

        def finish() -> None:
            for channel in list(self._sockets.values()):
                if not getattr(channel, "total_outbufs_len", 0):
                    channel.close()
            closed.set()

        # on the server's own thread: closing a descriptor under its select would be an error there
        self._server.trigger.pull_trigger(finish)
        closed.wait(CLOSE_SECONDS)

    def _open(self) -> None:
        from waitress.server import create_server

        self._server = create_server(
            self._app,
            map=self._sockets,
            sockets=[self._listening()],
            _dispatcher=_dispatcher(self._threads, self._at_start),
            connection_limit=CONNECTIONS_MAX,
            max_request_body_size=self._body_bytes_max,
            recv_bytes=RECEIVED_BYTES_MAX,
            channel_timeout=60,
            asyncore_use_poll=True,  # select() refuses descriptors above 1023
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._server.channel_class = _channel_class()
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._thread.start()

    def _listening(self) -> socket.socket:
        """A socket that listens: on the port, or on another where it was only chosen and somebody has taken it since."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        for _ in range(PORTS_TRIED_MAX):
            try:
                return socket.create_server((self._host, self._port), family=family)
            except OSError as error:
                other = self._another_port(self._port) if error.errno == errno.EADDRINUSE else None
                if other is None:
                    raise self._refused(error) from error
                self._port = other
        raise TransientFault(f"{PORTS_TRIED_MAX} ports in a row were taken", reason="http: no port")

    def _refused(self, error: OSError) -> FatalFault:
        said = error.strerror
        if error.errno == errno.EADDRINUSE:
            said = f"{os.strerror(error.errno)} by {port_holder(self._port) or 'another process'}"
        return FatalFault(
            f"cannot listen on {self._host}:{self._port}: {said}; free the port or choose another in the profile",
            reason=f"config: port {self._port}: {said}",
        )

    def _probe(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PROBE_TIMEOUT_SECONDS)
        try:
            connection.request("GET", self._health_path)
            status = connection.getresponse().status
        except OSError as error:
            self._bear(error)
            raise TransientFault(f"the service does not answer itself: {error}", reason="http: no answer") from error
        finally:
            connection.close()
        self._unanswered = 0
        if status != http.HTTPStatus.OK:
            raise TransientFault(f"the service answers {status} to itself", reason=f"http: {status}")

    def _bear(self, error: OSError) -> None:
        """Raise, as the bug it is, when the service is wedged: then the process is started anew."""
        answered = sum(self._answers.values())
        self._unanswered = self._unanswered + 1 if answered == self._answered_before else 1
        self._answered_before = answered
        if self._unanswered > UNANSWERED_PROBES_MAX:
            raise RuntimeError(f"the service has answered nobody for {self._unanswered} probes") from error


class LastInFirstOut:
    """A condition that wakes who began to wait last. A service with few requests at a time turns in few threads, whose own
    memory and whose database sessions' is warm then; in order of waiting every request met the coldest."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._waiting: list[threading.Lock] = []

    def wait(self) -> None:
        """Called, as the rest, with the lock held; it is free meanwhile."""
        turn = threading.Lock()
        turn.acquire()
        self._waiting.append(turn)
        self._lock.release()
        try:
            turn.acquire()
        finally:
            self._lock.acquire()

    def notify(self) -> None:
        if self._waiting:
            self._waiting.pop().release()

    def notify_all(self) -> None:
        while self._waiting:
            self.notify()


def _dispatcher(threads: int, at_start: Callable[[], None]) -> Any:
    """The server's own way of handing requests to its threads, but for their start and the order in which they are taken."""
    from waitress.task import ThreadedTaskDispatcher

    class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
        def handler_thread(self, thread_no: int) -> None:
            with contextlib.suppress(TransientFault, FatalFault):
                at_start()
            super().handler_thread(thread_no)

    dispatcher = Dispatcher()
    dispatcher.queue_cv = LastInFirstOut(dispatcher.lock)
    dispatcher.set_thread_count(threads)
    return dispatcher


def _channel_class() -> Any:
    """The server's own refusals (no HTTP, too large a body) as JSON too: a client never has to read two languages."""
    from waitress.channel import HTTPChannel
    from waitress.task import ErrorTask

    class JsonErrorTask(ErrorTask):  # type: ignore[misc]
        def execute(self) -> None:
            error = self.request.error
            body = orjson.dumps({"error": error.reason.lower().replace(" ", "_"), "detail": error.body,
                "fix": "send HTTP/1.1 with a Content-Length within the service's limit"})  # fmt: skip
            self.status = f"{error.code} {error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            self.set_close_on_finish()
            self.content_length = len(body)
            self.write(body)

    class Channel(HTTPChannel):  # type: ignore[misc]
        error_task_class = JsonErrorTask

    return Channel
