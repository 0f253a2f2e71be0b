"""Who may send which event types to the gate: names, hashed keys, scopes. Two keys of one name may be valid at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from fraud_daemons.domain.envelope import EVENT_TYPES, OUTPUTS
from fraud_daemons.postgres_runtime.connector import Connection

SCOPES: Mapping[str, tuple[str, ...]] = {
    "world_stream_producer": EVENT_TYPES,
    "client": OUTPUTS,  # live callers send transactions, never truth and never marks
}
"""Principal -> event types it may send. Truth has a key scope of its own."""

KEY_OF: Mapping[str, str] = {"producer_key": "world_stream_producer", "client_key": "client"}
"""Name in secrets.json -> principal."""


@dataclass(frozen=True)
class Principal:
    """One accepted key."""

    name: str
    key_sha256: str
    event_types: frozenset[str]
    expired_at: str | None = None
    """When it ended; None while it is accepted."""


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
