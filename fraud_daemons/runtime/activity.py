"""What the loop turns: an activity takes a step and says what it did and how long to rest.

A worker has one or more - a consumer, a sealer, a probe. Pacing belongs to the activity, looping to the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fraud_daemons.errors import PoisonFault


@dataclass(frozen=True)
class Outcome:
    """What a step did: records handled, seconds to rest before the next, and a word for the log."""

    records: int = 0
    rest_seconds: float = 0.0
    note: str = ""


class Activity(Protocol):
    """One thing a worker does, step by step. A step raises the faults of `errors`; the loop knows what to do."""

    name: str

    def step(self) -> Outcome:
        """Do one bounded unit of work."""

    def forget(self) -> None:
        """Drop whatever is held in memory: the last step failed or its fate is unknown."""

    def shrink(self) -> bool:
        """Take on less at once; False when it is already the least."""

    def isolate(self, fault: PoisonFault) -> bool:
        """Narrow down on poison: take on less, or dead-letter the one record left. False when it cannot."""

    def lag_records(self) -> int | None:
        """Records not yet handled, as of the last step; None when the word has no meaning here."""

    def wake_files(self) -> list[int]:
        """File descriptors that become readable when there may be work."""

    def close(self) -> None:
        """Finish: the worker drains."""


class PlainActivity:
    """Defaults for an activity without memory, batches or wake-ups."""

    name = "activity"

    def forget(self) -> None:
        """Nothing is held."""

    def shrink(self) -> bool:
        return False

    def isolate(self, fault: PoisonFault) -> bool:  # noqa: ARG002
        return False

    def lag_records(self) -> int | None:
        return None

    def wake_files(self) -> list[int]:
        return []

    def close(self) -> None:
        """Nothing to finish."""
