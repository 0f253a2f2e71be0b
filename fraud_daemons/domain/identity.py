"""One identity law: every id is derived from named parts, none is random, so a retry meets its own footprint."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

ID_HEX_DIGITS = 32  # 128 bits: no accidental collision within any data set this platform will see


def derived_id(kind: str, *parts: str | int) -> str:
    """The id of `kind` made of `parts`: 32 hex digits of SHA-256.

    Each part is prefixed with its length, so ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256()
    for part in (kind, *parts):
        raw = str(part).encode()
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()[:ID_HEX_DIGITS]


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no white space."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def payload_digest(event: dict[str, Any]) -> bytes:
    """SHA-256 of the whole event in canonical form: same id and same hash is a repeat, another hash an anomaly."""
    return hashlib.sha256(canonical_json(event)).digest()


def payload_hash(event: dict[str, Any]) -> str:
    """`payload_digest` in hex."""
    return payload_digest(event).hex()


def frame_key(merchant_id: str | None, terminal_id: str | None, arrival_seq: int) -> str:
    """Key of a join frame: one arrival at one place. Unknown places share the empty name, never an invented one."""
    return f"{terminal_id or ''}|{merchant_id or ''}|{arrival_seq}"
