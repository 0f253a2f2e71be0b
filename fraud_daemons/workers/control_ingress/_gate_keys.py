"""Who is asking: keys are compared by hash, in constant time, against a list that is read again every few seconds."""

from __future__ import annotations

import hmac
import threading
from http import HTTPStatus

from fraud_daemons.clock import Clock
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import principals
from fraud_daemons.state.principals import Principal, key_hash
from fraud_daemons.workers.control_ingress._gate_http import Refused

CACHE_SECONDS = 5.0
RELOAD_INTERVAL_SECONDS = 1.0
"""A key that is not known makes the list be read again, so that rotation is quick; at most this often, so that
guessing keys costs the guesser and not the database."""

_FIX = "send the header X-API-Key; `platform up` writes the generated keys to secrets.json in the run directory"


class Keys:
    """The accepted keys, shared by all request threads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._principals: list[Principal] = []
        self._read_at: float | None = None

    def principal(self, key: str | None) -> Principal:
        """Who sent `key`. Raises Refused (401) without a valid one, TransientFault while the list cannot be read."""
        if not key:
            raise Refused(HTTPStatus.UNAUTHORIZED, "key_missing", "the request has no X-API-Key", fix=_FIX)
        digest = key_hash(key)
        found = self._match(digest, self._known(age_max=CACHE_SECONDS))
        if found is None:
            found = self._match(digest, self._known(age_max=RELOAD_INTERVAL_SECONDS))
        if found is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "key_wrong", "no principal has this X-API-Key", fix=_FIX)
        if found.expired_at is not None:
            said = f"this X-API-Key of {found.name} ended at {found.expired_at}"
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "key_expired", said, fix="send another key, or have this one extended"
            )
        return found

    def _match(self, digest: str, known: list[Principal]) -> Principal | None:
        """Every key is compared, whichever matches, so that time tells nothing."""
        found = None
        for principal in known:
            if hmac.compare_digest(principal.key_sha256, digest):
                found = principal
        return found

    def _known(self, *, age_max: float) -> list[Principal]:
        with self._lock:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= age_max:
                with self._database.scope() as connection:
                    self._principals = principals.active(connection)
                self._read_at = now
            return self._principals
