"""The feature plane's memory: windows of the entities seen lately, bounded by the entries they hold together.

Who was not seen for a while goes, whether there is room or not: what a run that ended or a card that rests leaves behind
is no use to anybody. What is gone is loaded again. The memory is only ever as good as the last commit, so it is dropped
whole after any failed or ambiguous step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fraud_daemons.domain.features import EntityWindow, Row
from fraud_daemons.domain.fraud_windows import Change, FraudWindow, Place
from fraud_daemons.state.features import EntityKey, flow_key

IDLE_RECORDS: Final = 50_000
"""Windows go that were not used during so many records, at the latest during twice as many. With the Handbook's 5,000
cards and 10,000 terminals one record in 270 then loads a window again."""


class Windows:
    """Entity -> window. `entries_max` bounds the rows and labels of all windows together, beyond the batch at work.

    Two generations: a window that is used is among the recent ones; at a turn these become the idle ones, and what was
    idle before goes.
    """

    def __init__(self, *, entries_max: int) -> None:
        self.entries = 0
        self._entries_max = entries_max
        self._recent: dict[EntityKey, EntityWindow] = {}
        self._idle: dict[EntityKey, EntityWindow] = {}
        self._records = 0  # since the last turn

    def __len__(self) -> int:
        return len(self._recent) + len(self._idle)

    def missing(self, entities: Iterable[EntityKey]) -> list[EntityKey]:
        """Which of these must be loaded; those that are here count as used now."""
        absent = []
        for entity in entities:
            if entity in self._recent:
                continue
            window = self._idle.pop(entity, None)
            if window is None:
                absent.append(entity)
            else:
                self._recent[entity] = window
        return absent

    def hold(self, entities: Iterable[EntityKey], rows: Mapping[EntityKey, Sequence[Row]]) -> None:
        """Take loaded windows; an entity without rows begins empty."""
        for entity in entities:
            window = EntityWindow.from_rows(rows.get(entity, ()))
            window.key = flow_key(entity[1])
            self._recent[entity] = window
            self.entries += _size(window)

    def of(self, entity: EntityKey) -> EntityWindow:
        """A window that was asked for and is here."""
        return self._recent[entity]

    def add(self, entity: EntityKey, row: Row) -> bool:
        """Put a row in its place; True when it came late."""
        self.entries += 1
        return self._recent[entity].add(*row)

    def __contains__(self, entity: EntityKey) -> bool:
        return entity in self._recent or entity in self._idle

    def label(self, entity: EntityKey, place: Place, changes: Sequence[Change]) -> None:
        """Say what labels tell of a transaction of a terminal that is here; replaces what was said of it before."""
        window = (self._recent if entity in self._recent else self._idle)[entity]
        if window.frauds is None:
            window.frauds = FraudWindow()
        self.entries -= len(window.frauds)
        window.frauds.put(place, changes)
        self.entries += len(window.frauds)

    def prune(self, entity: EntityKey, horizon: int) -> bool:
        """Forget rows of an entity at or before `horizon`; True when some went."""
        window = self._recent[entity]
        before = window.labelled()
        gone = window.prune(horizon)
        if gone:
            self.entries -= gone + before - window.labelled()
        return gone > 0

    def drop(self, entity: EntityKey) -> None:
        """Forget an entity: its rows are gone."""
        for windows in (self._recent, self._idle):
            if entity in windows:
                self.entries -= _size(windows.pop(entity))

    def shrink(self, records: int) -> None:
        """After so many records more: let go who is idle for long, and of the idle as many as the bound demands."""
        self._records += records
        if self._records >= IDLE_RECORDS:
            self._turn()
        while self.entries > self._entries_max:
            if not self._idle:
                self._turn()
            _, window = self._idle.popitem()
            self.entries -= _size(window)

    def _turn(self) -> None:
        self.entries -= sum(_size(window) for window in self._idle.values())
        self._idle, self._recent, self._records = self._recent, {}, 0

    def clear(self) -> None:
        """Drop everything."""
        self._recent, self._idle = {}, {}
        self.entries = self._records = 0


def _size(window: EntityWindow) -> int:
    """The rows a window holds; an empty one takes memory too."""
    return len(window) + 1 + window.labelled()
