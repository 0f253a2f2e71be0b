"""The console's routes as a WSGI application. Every one of them only reads.

    GET  /               the page; without a session the page that asks for the token (401)
    POST /session        {"token"} -> a cookie; 403 for a wrong one, 429 + Retry-After when too many were wrong
    GET  /stream         the picture, pushed as it changes (server-sent events)
    GET  /snapshot       the picture, once
    GET  /metrics        the picture for Prometheus
    GET  /healthz        the service turns; asks nobody
    GET  /static/…       the page's parts

The link carries the token behind `#`, which a browser sends to nobody: the page exchanges it for a cookie and takes it
out of the address bar. Requests under another name than loopback's are refused: a page elsewhere whose name was made to
lead here could otherwise read along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.clock import Clock
from fraud_daemons.console.access import Access, TooManyGuesses, cookie_name
from fraud_daemons.console.board import Board
from fraud_daemons.console.exposition import CONTENT_TYPE, exposition
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger

HOST: Final = "127.0.0.1"
NAMES: Final = (HOST, "localhost", "[::1]")
"""What a browser may call it; any other Host is a name that somebody else gave to loopback."""
STREAM_SECONDS_MAX: Final = 300.0
"""A stream ends and the page opens the next: bounds what a page that stopped reading can pile up."""
STREAM_QUIET_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 1.5
FRESH_WAIT_SECONDS: Final = 2.0
TOKEN_BODY_BYTES_MAX: Final = 1024
RETRY_AFTER_SECONDS: Final = 5

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""No inline script and no inline style: what somebody got into a name or a reason stays text."""
SECURITY: Final = (
    ("Content-Security-Policy", CONTENT_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
STATIC: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "login.js": "text/javascript; charset=utf-8",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
    "uPlot.LICENSE": "text/plain; charset=utf-8",
}
_FOLDER: Final = Path(__file__).parent / "static"

Headers = list[tuple[str, str]]
Answer = tuple[HTTPStatus, Headers, Iterable[bytes]]
StartResponse = Callable[[str, Headers], Any]
Environ = dict[str, Any]


class ConsoleApp:
    """The WSGI callable."""

    def __init__(self, board: Board, access: Access, *, pages_max: int, clock: Clock, log: Logger) -> None:
        self._board = board
        self._clock = clock
        self._access = access
        self._pages_max = pages_max
        self._log = log
        self._routes: dict[str, Callable[[], Answer]] = {
            "/stream": self._stream,
            "/snapshot": self._snapshot,
            "/metrics": self._metrics,
        }

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, headers, body = self._answer(environ)
        except TooManyGuesses as guesses:
            status, headers, body = self._refusal(
                environ,
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many wrong tokens",
                ("Retry-After", str(guesses.retry_after_seconds)),
            )
        start_response(f"{status.value} {status.phrase}", [*headers, *SECURITY])
        return body

    def _answer(self, environ: Environ) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        if environ.get("HTTP_HOST", "") not in {f"{name}:{environ['SERVER_PORT']}" for name in NAMES}:
            return self._refusal(
                environ, HTTPStatus.MISDIRECTED_REQUEST, "the console answers to loopback's names only"
            )
        if path == "/session":
            if method != "POST":
                return self._refusal(environ, HTTPStatus.METHOD_NOT_ALLOWED, "use POST", ("Allow", "POST"))
            return self._open_session(environ)
        if method not in ("GET", "HEAD"):
            return self._refusal(environ, HTTPStatus.METHOD_NOT_ALLOWED, "the console only reads", ("Allow", "GET"))
        if path == "/healthz":
            return _json(HTTPStatus.OK, {"status": "ok"})
        if path.startswith("/static/"):
            return self._static(environ, path.removeprefix("/static/"))
        if path == "/":
            known = self._access.admits_cookie(environ.get("HTTP_COOKIE", ""), port=environ["SERVER_PORT"])
            return _page("index.html", HTTPStatus.OK) if known else _page("login.html", HTTPStatus.UNAUTHORIZED)
        if path not in self._routes:
            return self._refusal(environ, HTTPStatus.NOT_FOUND, "there is nothing here")
        return self._routes[path]() if self._admits(environ) else self._unknown(environ)

    # --- who is asking
    def _admits(self, environ: Environ) -> bool:
        if self._access.admits_cookie(environ.get("HTTP_COOKIE", ""), port=environ["SERVER_PORT"]):
            return True
        bearer = environ.get("HTTP_AUTHORIZATION", "")
        return bool(bearer) and self._access.admits_bearer(bearer)

    def _unknown(self, environ: Environ) -> Answer:
        if environ.get("HTTP_AUTHORIZATION"):
            return self._refusal(environ, HTTPStatus.FORBIDDEN, "this is not the console's token")
        return self._refusal(environ, HTTPStatus.UNAUTHORIZED, "open the link that `platform console` prints")

    def _open_session(self, environ: Environ) -> Answer:
        raw = environ["wsgi.input"].read(TOKEN_BODY_BYTES_MAX)
        try:
            token = str(orjson.loads(raw)["token"])
        except (ValueError, TypeError, KeyError):
            return self._refusal(environ, HTTPStatus.BAD_REQUEST, 'send {"token": "…"}')
        session = self._access.session(token)
        if session is None:
            return self._refusal(environ, HTTPStatus.FORBIDDEN, "this is not the console's token")
        cookie = f"{cookie_name(environ['SERVER_PORT'])}={session}; Path=/; HttpOnly; SameSite=Strict"
        return _json(HTTPStatus.OK, {"session": "open"}, ("Set-Cookie", cookie))

    def _refusal(self, environ: Environ, status: HTTPStatus, detail: str, *more: tuple[str, str]) -> Answer:
        if status in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.MISDIRECTED_REQUEST):
            path = environ.get("PATH_INFO", "")[:100]
            self._log.warning(events.CONSOLE_REFUSED, path=path, status=status.value, detail=detail)
        return _json(status, {"error": status.phrase.lower().replace(" ", "_"), "detail": detail}, *more)

    # --- what is shown
    def _static(self, environ: Environ, name: str) -> Answer:
        if name not in STATIC:
            return self._refusal(environ, HTTPStatus.NOT_FOUND, "there is nothing here")
        tag = _tag(name)
        headers = [("ETag", tag), ("Cache-Control", "no-cache"), ("Content-Type", STATIC[name])]
        if environ.get("HTTP_IF_NONE_MATCH") == tag:
            return HTTPStatus.NOT_MODIFIED, headers, []
        body = (_FOLDER / name).read_bytes()
        return HTTPStatus.OK, [*headers, ("Content-Length", str(len(body)))], [body]

    def _snapshot(self) -> Answer:
        body = self._board.fresh(age_seconds_max=FRESH_SECONDS, wait_seconds=FRESH_WAIT_SECONDS)
        return _bytes(HTTPStatus.OK, "application/json", body)

    def _metrics(self) -> Answer:
        self._board.fresh(age_seconds_max=FRESH_SECONDS, wait_seconds=FRESH_WAIT_SECONDS)
        return _bytes(HTTPStatus.OK, CONTENT_TYPE, exposition(self._board.parts))

    def _stream(self) -> Answer:
        if self._board.pages >= self._pages_max:
            detail = {"error": "too_many_pages", "detail": f"{self._pages_max} pages are open; close one"}
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, detail, ("Retry-After", str(RETRY_AFTER_SECONDS)))
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]
        return HTTPStatus.OK, headers, self._pictures()

    def _pictures(self) -> Iterator[bytes]:
        with self._board.page(self._pages_max) as admitted:
            yield b"retry: 1000\n\n"
            if admitted:
                yield b"event: history\ndata: " + self._board.history() + b"\n\n"
            sent, until = 0, self._clock.monotonic() + STREAM_SECONDS_MAX
            while admitted and self._clock.monotonic() < until and not self._board.closed:
                newer = self._board.after(sent, wait_seconds=STREAM_QUIET_SECONDS)
                if newer is None:
                    yield b": nothing new\n\n"  # finds out whether anybody is still there
                else:
                    sent, picture = newer
                    yield b"data: " + picture + b"\n\n"


def _page(name: str, status: HTTPStatus) -> Answer:
    return _bytes(status, "text/html; charset=utf-8", (_FOLDER / name).read_bytes())


def _bytes(status: HTTPStatus, kind: str, body: bytes, *more: tuple[str, str]) -> Answer:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"), *more]
    return status, headers, [body]


def _json(status: HTTPStatus, document: Any, *more: tuple[str, str]) -> Answer:
    return _bytes(status, "application/json", orjson.dumps(document), *more)


@cache
def _tag(name: str) -> str:
    return f'"{hashlib.sha256((_FOLDER / name).read_bytes()).hexdigest()[:16]}"'
