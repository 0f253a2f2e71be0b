"""Checkpoints in words: a worker *claims* its subscriptions, which raises their epoch, and then *advances* them.

An advance is a compare-and-set on position and epoch. When it hits nothing, another copy of the worker has claimed
them since: the older copy must stop, and can commit nothing, however long it was frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fraud_daemons.errors import AnotherCopyError

Subscription = tuple[str, int]
"""(topic, partition)."""

Move = tuple[int, int]
"""(from position, to position)."""


@dataclass(frozen=True)
class Claim:
    """What a worker holds: its name, the epoch of this claim, and where each subscription stood."""

    worker: str
    epoch: int
    positions: Mapping[Subscription, int]


class Checkpoints(Protocol):
    """A store of checkpoints, inside whatever transaction it was made for."""

    def claim(self, worker: str, subscriptions: Sequence[Subscription]) -> Claim:
        """Take over the subscriptions: epoch + 1 for all of them, positions as they stand (0 when new)."""

    def positions(self, claim: Claim) -> dict[Subscription, int]:
        """Where the claimed subscriptions stand now. Raises AnotherCopyError when the claim is no longer the newest."""

    def advance(self, claim: Claim, moves: Mapping[Subscription, Move]) -> None:
        """Move each subscription from a position to another. Raises AnotherCopyError when any does not match."""


def another_copy(claim: Claim) -> AnotherCopyError:
    """The fault of a claim that is no longer the newest."""
    return AnotherCopyError(
        f"another copy of {claim.worker} has claimed its checkpoints since epoch {claim.epoch}; this one stops",
        reason=f"another copy of {claim.worker} took over",
    )
