"""Evidence in words: an object is put once under a key; putting the same bytes again is a repeat, other bytes a conflict."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Protocol

from fraud_daemons.errors import FatalFault

STORE = "object store"
"""How the reason of every fault of the store begins, for whoever can go on without evidence for a while."""


class PutOutcome(Enum):
    """What a put found."""

    WRITTEN = "written"
    ALREADY_THERE = "already there"  # the same bytes: an earlier try of ours got through


class ObjectFacts(NamedTuple):
    """A listed object: key, size in bytes."""

    key: str
    size: int


class ObjectVersion(NamedTuple):
    """A version of an object: key, the store's name for it, when it was put (ISO 8601), and whether a get gives it now.
    `deleted` = no bytes but the mark of a deletion, above the versions it hides."""

    key: str
    version: str
    put_at: str
    latest: bool
    deleted: bool


class EvidenceConflict(FatalFault):
    """An object with this key but other bytes exists: evidence was tampered with, or two writers disagree."""


class EvidenceStore(Protocol):
    """Put-once objects. Raises TransientFault while the store is away, FatalFault when it refuses."""

    def put_once(self, key: str, body: bytes, *, sha256: str) -> PutOutcome:
        """Write `body` unless the key exists; then compare. Raises EvidenceConflict when the bytes differ."""

    def get(self, key: str) -> bytes:
        """The bytes of an object. Raises FatalFault when there is none."""

    def list(self, prefix: str) -> Iterator[ObjectFacts]:
        """Every object below `prefix`, in key order."""

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """Every version below `prefix`, an object's newest first; where the store keeps none, each object once."""

    def get_version(self, key: str, version: str) -> bytes:
        """The bytes of one version. Raises FatalFault when there is none."""

    def keeps_versions(self) -> bool:
        """Whether what is overwritten or deleted stays as an older version."""

    def check(self) -> None:
        """Prove that the bucket can be listed with these credentials. Raises like every other call."""
