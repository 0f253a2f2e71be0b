"""Who may send which event types to the gate: names, hashed keys, scopes. Two keys of one name may be valid at once.

A key is kept as its hash and never comes back out; its fingerprint, the beginning of the hash, names it. Rows are not
deleted: who could send when stays readable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fraud_daemons.domain.envelope import EVENT_TYPES, OUTPUTS
from fraud_daemons.postgres_runtime.connector import Connection

SCOPES: Mapping[str, tuple[str, ...]] = {
    "world_stream_producer": EVENT_TYPES,
    "client": OUTPUTS,  # live callers send transactions, never truth and never marks
}
"""Principal -> event types it may send. Truth has a key scope of its own."""

KEY_OF: Mapping[str, str] = {"producer_key": "world_stream_producer", "client_key": "client"}
"""Name in secrets.json -> principal."""

FINGERPRINT_DIGITS: Final = 12


@dataclass(frozen=True)
class Principal:
    """One accepted key."""

    name: str
    key_sha256: str
    event_types: frozenset[str]
    expired_at: str | None = None
    """When it ended; None while it is accepted."""


@dataclass(frozen=True)
class Key:
    """One key as the list shows it."""

    name: str
    fingerprint: str
    event_types: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    state: str
    """`accepted`, `ended` (by itself) or `withdrawn`."""


def key_hash(key: str) -> str:
    """How a key is kept at rest. Keys are 192 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(key.encode()).hexdigest()


def ensure(connection: Connection, keys: Mapping[str, str]) -> None:
    """Make the generated keys known; a name's other keys stay as they are."""
    for secret, name in KEY_OF.items():
        if secret in keys:
            connection.execute(
                "insert into ig.principals (name, key_sha256, event_types) values (%s, %s, %s)"
                " on conflict (name, key_sha256) do update set event_types = excluded.event_types, active = true",
                (name, key_hash(keys[secret]), list(SCOPES[name])),
            )


def active(connection: Connection) -> list[Principal]:
    """Every key that is not withdrawn; one that ended by itself says when."""
    rows = connection.execute(
        "select name, key_sha256, event_types, case when expires_at <= now() then expires_at::text end"
        " from ig.principals where active"
    )
    return [Principal(name, digest, frozenset(types), expired) for name, digest, types, expired in rows]


def keys(connection: Connection, name: str | None = None) -> list[Key]:
    """Every key there ever was, of `name` or of all, newest first within a name."""
    rows = connection.execute(
        "select name, left(key_sha256, %s), event_types, created_at, expires_at,"
        " case when not active then 'withdrawn' when expires_at <= now() then 'ended' else 'accepted' end"
        " from ig.principals where %s::text is null or name = %s order by name, created_at desc, key_sha256",
        (FINGERPRINT_DIGITS, name, name),
    )
    return [Key(who, fingerprint, tuple(types), *rest) for who, fingerprint, types, *rest in rows]


def add(
    connection: Connection,
    name: str,
    *,
    key_sha256: str,
    event_types: Sequence[str],
    at: datetime,
    expires_at: datetime | None,
) -> None:
    """Make a new key known beside those that are there."""
    connection.execute(
        "insert into ig.principals (name, key_sha256, event_types, created_at, expires_at) values (%s, %s, %s, %s, %s)",
        (name, key_sha256, list(event_types), at, expires_at),
    )


def end_older(connection: Connection, name: str, *, newest_sha256: str, at: datetime, kept_until: datetime) -> None:
    """Leave two keys of `name` at most: the newest, and until `kept_until` the one before it; the rest end at `at`."""
    connection.execute(
        "update ig.principals p set expires_at = least(p.expires_at, case when o.age = 1 then %s else %s end)"
        " from (select key_sha256, row_number() over (order by created_at desc, key_sha256) as age"
        "       from ig.principals where name = %s and key_sha256 <> %s and active and coalesce(expires_at > %s, true)) o"
        " where p.name = %s and p.key_sha256 = o.key_sha256",
        (kept_until, at, name, newest_sha256, at, name),
    )


def withdraw(connection: Connection, name: str, fingerprint: str) -> list[str]:
    """Accept a key no longer, by the beginning of its hash; the fingerprints of those that were accepted until now."""
    rows = connection.execute(
        "update ig.principals set active = false where name = %s and starts_with(key_sha256, %s) and active"
        " returning left(key_sha256, %s)",
        (name, fingerprint, FINGERPRINT_DIGITS),
    )
    return [row[0] for row in rows]
