"""Who may look: the token generated at first start, exchanged once for a cookie that does not contain it.

Wrong tokens come from a bucket that refills slowly. While it is empty no token is looked at, a right one neither, so
that guessing learns nothing; pages that are open already have their cookie and go on. Comparison takes constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from fraud_daemons.clock import Clock

WRONG_TOKENS_MAX: Final = 5
REFILL_SECONDS: Final = 12.0
"""One more guess every so often: 5 a minute, over 192 bits."""
TOKEN_CACHE_SECONDS: Final = 5.0


class TooManyGuesses(Exception):
    """No token is looked at for a while."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too many wrong tokens")
        self.retry_after_seconds = retry_after_seconds


def cookie_name(port: str) -> str:
    """Cookies know no ports, and two platforms may run side by side."""
    return f"fraud_daemons_console_{port}"


class Access:
    """Shared by all request threads. `read_secrets` is asked again every few seconds, so a new token needs no restart."""

    def __init__(self, read_secrets: Callable[[], dict[str, Any]], clock: Clock) -> None:
        self._read_secrets = read_secrets
        self._clock = clock
        self._lock = threading.Lock()
        self._guesses = float(WRONG_TOKENS_MAX)
        self._refilled_at = clock.monotonic()
        self._token = ""
        self._read_at = float("-inf")

    def session(self, token: str) -> str | None:
        """The cookie's value for the right token, None for a wrong one. Raises TooManyGuesses."""
        return self._session_of(self._expected()) if self._is_right(token) else None

    def admits_bearer(self, header: str) -> bool:
        """Whether an Authorization header carries the token. Raises TooManyGuesses."""
        kind, _, token = header.partition(" ")
        return kind.lower() == "bearer" and self._is_right(token.strip())

    def admits_cookie(self, header: str, *, port: str) -> bool:
        """Whether a Cookie header carries a session of the token in force, at the console of this port."""
        try:
            found = SimpleCookie(header).get(cookie_name(port))
        except CookieError:
            return False
        expected = self._expected()
        return bool(expected and found) and hmac.compare_digest(
            (found.value if found else "").encode(), self._session_of(expected).encode()
        )

    def _is_right(self, token: str) -> bool:
        with self._lock:
            self._refill()
            if self._guesses < 1:
                raise TooManyGuesses(max(1, round((1 - self._guesses) * REFILL_SECONDS)))
            expected = self._expected()
            right = hmac.compare_digest(token.encode(), expected.encode()) and bool(expected)
            if not right:
                self._guesses -= 1
            return right

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._guesses = min(float(WRONG_TOKENS_MAX), self._guesses + (now - self._refilled_at) / REFILL_SECONDS)
        self._refilled_at = now

    def _expected(self) -> str:
        now = self._clock.monotonic()
        if now - self._read_at >= TOKEN_CACHE_SECONDS:
            self._token = str(self._read_secrets().get("console", {}).get("token", ""))
            self._read_at = now
        return self._token

    @staticmethod
    def _session_of(token: str) -> str:
        return hmac.new(token.encode(), b"console session", hashlib.sha256).hexdigest()
