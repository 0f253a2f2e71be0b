"""Which transactions of a terminal are known as fraud as of a time: what the fraud shares are counted from.

A label counts for a record at `t` when it was observed at or before `t`, whenever it arrived; so the answer depends on
event time alone. What a person decided has no place in the event time of a replayed world: it counts for every record
that gets its vector after it, over what any feed said.

Looking at a later or at an earlier time costs the labels between the two, which are few when records come nearly in
order; a count is two bisections, however many transactions the terminal has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from fraud_daemons.domain.labels import FRAUD_DISPOSITION, as_of

ALWAYS: Final = -(2**62)
"""An observed time before every record: what people decided."""

_LAST: Final = 2**63

Place = tuple[int, int, int]
"""Where a transaction stands at its terminal: (occurred_at in microseconds, source_seq, key of the flow)."""

Change = tuple[int, int]
"""(observed at, +1 fraud from here on or -1 no longer)"""


class FlowLabel(NamedTuple):
    """A label of a flow as far as the shares need it."""

    label_id: str
    value: str
    source: str
    observed: int
    supersedes: str | None


def changes_of(labels: Iterable[FlowLabel]) -> list[Change]:
    """When a flow becomes known as fraud, and when no longer, from all the labels it has."""
    told = [
        {
            "label_id": label.label_id,
            "type": FRAUD_DISPOSITION,
            "value": label.value,
            "source": label.source,
            "observed_time": label.observed,
            "supersedes": label.supersedes,
        }
        for label in labels
    ]
    human = [label for label in told if label["source"] == "HUMAN"]
    if human:
        standing = as_of(human, _LAST)
        return [(ALWAYS, 1)] if standing is not None and standing["value"] == "FRAUD" else []
    changes: list[Change] = []
    fraud = False
    for time in sorted({label.observed for label in labels}):
        standing = as_of(told, time)
        now = standing is not None and standing["value"] == "FRAUD"
        if now != fraud:
            changes.append((time, 1 if now else -1))
            fraud = now
    return changes


class FraudWindow:
    """The labelled transactions of one terminal, and which of them are fraud as of the time last asked for."""

    __slots__ = ("_applied", "_changes", "_flows", "_frauds", "_time")

    def __init__(self) -> None:
        self._flows: dict[Place, Sequence[Change]] = {}
        self._changes: list[tuple[int, Place, int]] = []
        self._applied = 0  # so many changes were observed by _time: what they say is in _frauds
        self._time = ALWAYS
        self._frauds: list[Place] = []

    def __len__(self) -> int:
        return len(self._flows)

    def put(self, place: Place, changes: Sequence[Change]) -> None:
        """Say all that is known of a transaction; replaces what was said of it before."""
        before = self._flows.pop(place, ())
        if self._says_fraud(before):
            self._apply(place, -1)
        for observed, delta in before:
            del self._changes[bisect_left(self._changes, (observed, place, delta))]
            self._applied -= observed <= self._time
        for observed, delta in changes:
            insort(self._changes, (observed, place, delta))
            self._applied += observed <= self._time
        if self._says_fraud(changes):
            self._apply(place, 1)
        if changes:
            self._flows[place] = changes

    def _says_fraud(self, changes: Sequence[Change]) -> bool:
        """What these changes say as of the time last asked for."""
        return sum(delta for observed, delta in changes if observed <= self._time) > 0

    def count(self, time: int, *, after: int, up_to: tuple[int, int]) -> int:
        """Transactions known as fraud at `time` that occurred after `after` and before the place `up_to`."""
        self._look_at(time)
        end = bisect_left(self._frauds, (*up_to, ALWAYS))
        return end - bisect_right(self._frauds, (after, _LAST, _LAST), 0, end)

    def prune(self, horizon: int) -> int:
        """Forget transactions at or before `horizon`; returns how many went."""
        old = [place for place in self._flows if place[0] <= horizon]
        for place in old:
            self.put(place, ())
        return len(old)

    def _look_at(self, time: int) -> None:
        changes = self._changes
        while self._applied < len(changes) and changes[self._applied][0] <= time:
            _, place, delta = changes[self._applied]
            self._apply(place, delta)
            self._applied += 1
        while self._applied and changes[self._applied - 1][0] > time:
            self._applied -= 1
            _, place, delta = changes[self._applied]
            self._apply(place, -delta)
        self._time = time

    def _apply(self, place: Place, delta: int) -> None:
        if delta > 0:
            insort(self._frauds, place)
        else:
            del self._frauds[bisect_left(self._frauds, place)]
