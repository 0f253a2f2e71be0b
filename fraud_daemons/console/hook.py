"""Tells one receiver, by signed POST, that a worker is held or has been in trouble too long; and once more when it is over.

    kind          worker_in_trouble | worker_recovered
    profile, pack, worker, status, reason, since_seconds, at
    alert_id      the same in both and in every attempt (Idempotency-Key): by it the receiver knows a repeat

Each is signed like the webhook: X-Webhook-Timestamp, X-Webhook-Signature = sha256=<hex HMAC-SHA256 of "<timestamp>.<body>">
under the secret alerts.signing_key. What was told stands in `alerts.json`, so a restart of the console tells nothing
twice. It sends from a thread of its own; the newest hundred messages wait, and an alert that cannot be delivered in some
minutes is dropped and logged. The console cannot tell of its own death: watch that from outside.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import orjson

from fraud_daemons.clock import Clock, iso
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger
from fraud_daemons.runtime.backoff import Backoff

MESSAGES_WAITING_MAX: Final = 100
ATTEMPTS_MAX: Final = 8
RETRY_SECONDS_MAX: Final = 60.0
AT_ONCE: Final = "held"
STARTING: Final = "running starting"
TROUBLE: Final = ("running waiting", "running failing", AT_ONCE)


class Hook:
    """Hears every picture (`notice`), keeps who is in trouble, and hands messages to the sender."""

    def __init__(
        self,
        url: str,
        *,
        after_seconds: float,
        timeout_seconds: float,
        read_secrets: Callable[[], dict[str, Any]],
        told: Path,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._after_seconds = after_seconds
        self._told_file = told
        self._clock = clock
        self._told: dict[str, str] = _read(told)
        """Worker -> the alert of it that is open."""
        self._since: dict[str, float] = {}
        self._sender = Sender(_receiver(url), timeout_seconds, read_secrets, clock, log)

    def notice(self, status: Mapping[str, Any]) -> None:
        """One picture of the platform, as `platform status --json` says it."""
        now = self._clock.monotonic()
        for pack in status["packs"]:
            for worker in pack["workers"]:
                self._notice(status, pack["pack"], worker, now)

    def close(self) -> None:
        """Let the sender end with the message in hand."""
        self._sender.close()

    def _notice(self, status: Mapping[str, Any], pack: str, worker: Mapping[str, Any], now: float) -> None:
        name = worker["worker"]
        if worker["status"] not in TROUBLE:
            if worker["status"] == STARTING:  # it may fall back at once: over means ready, or stopped by an operator
                return
            self._since.pop(name, None)
            if name in self._told:
                self._send("worker_recovered", status, pack, worker, self._told.pop(name), 0.0)
            return
        begun = self._since.setdefault(name, now - (worker["reason_seconds"] or 0.0))
        long_enough = worker["status"] == AT_ONCE or now - begun >= self._after_seconds
        if long_enough and name not in self._told:
            self._told[name] = derived_id("alert", name, iso(self._clock.now()))
            self._send("worker_in_trouble", status, pack, worker, self._told[name], now - begun)

    def _send(
        self, kind: str, status: Mapping[str, Any], pack: str, worker: Mapping[str, Any], alert_id: str, seconds: float
    ) -> None:
        _write(self._told_file, self._told)
        self._sender.put(
            {
                "kind": kind,
                "alert_id": alert_id,
                "profile": status["profile"],
                "pack": pack,
                "worker": worker["worker"],
                "status": worker["status"],
                "reason": worker["reason"],
                "since_seconds": round(seconds, 1),
                "at": iso(self._clock.now()),
            }
        )


class Sender:
    """One thread, one receiver, one message after the other, so that trouble never arrives after its end."""

    def __init__(
        self,
        receiver: SplitResult,
        timeout_seconds: float,
        read_secrets: Callable[[], dict[str, Any]],
        clock: Clock,
        log: Logger,
    ) -> None:
        self._receiver = receiver
        self._timeout = timeout_seconds
        self._read_secrets = read_secrets
        self._clock = clock
        self._log = log
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=MESSAGES_WAITING_MAX)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, message: dict[str, Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="hook", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._log.warning(events.HOOK_ANSWERED, alert_kind=message["kind"], detail="dropped: too many wait")

    def close(self) -> None:
        self._stop.set()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._waiting.get(timeout=1.0)
            except queue.Empty:
                continue
            if message is not None:
                self._deliver(message)

    def _deliver(self, message: dict[str, Any]) -> None:
        backoff, detail = Backoff(cap_seconds=RETRY_SECONDS_MAX), ""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            status, detail = self._post(message)
            if status is not None and 200 <= status < 300:
                break
            detail = f"{detail}; given up" if attempt == ATTEMPTS_MAX else detail
            if self._clock.wait(backoff.next_delay() if attempt < ATTEMPTS_MAX else 0.0, self._stop):
                return
        self._log.info(
            events.HOOK_ANSWERED, alert_kind=message["kind"], about=message["worker"], attempts=attempt, detail=detail
        )

    def _post(self, message: dict[str, Any]) -> tuple[int | None, str]:
        body = orjson.dumps(message)
        timestamp = int(self._clock.now().timestamp())
        key = str(self._read_secrets().get("alerts", {}).get("signing_key", ""))
        signature = hmac.new(key.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "fraud-daemons",
            "Idempotency-Key": f"{message['alert_id']}-{message['kind']}",
            "X-Webhook-Timestamp": str(timestamp),
            "X-Webhook-Signature": f"sha256={signature}",
        }
        where = self._receiver
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        connection = kind(where.hostname or "", where.port, timeout=self._timeout)
        try:
            connection.request("POST", (where.path or "/") + (f"?{where.query}" if where.query else ""), body, headers)
            status = connection.getresponse().status
            return status, f"HTTP {status}"
        except (OSError, http.client.HTTPException) as error:
            return None, f"no answer ({type(error).__name__})"
        finally:
            connection.close()


def _receiver(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and " " not in url
    except ValueError:
        good = False
    if not good or parts.username is not None:
        raise ConfigurationError(
            ["alerts.hook_url: must be an http:// or https:// URL with a host and without credentials"],
            source="console",
        )
    return parts


def _read(path: Path) -> dict[str, str]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError):  # none yet; a broken file costs one message too many
        return {}
    return {str(name): str(alert) for name, alert in found.items()} if isinstance(found, dict) else {}


def _write(path: Path, told: Mapping[str, str]) -> None:
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(orjson.dumps(dict(told)))
        temporary.replace(path)
    except OSError:  # a full disk costs at most one message too many
        pass
