"""The feature plane's memory: windows of the entities seen lately, bounded by the entries they hold together.

Least recently used go first; what is gone is loaded again. The memory is only ever as good as the last commit, so it is
dropped whole after any failed or ambiguous step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from fraud_daemons.domain.features import EntityWindow, Row
from fraud_daemons.domain.fraud_windows import Change, FraudWindow, Place
from fraud_daemons.state.features import EntityKey


class Windows:
    """Entity -> window. `entries_max` bounds the rows and labels of all windows together, beyond the batch at work."""

    def __init__(self, *, entries_max: int) -> None:
        self.entries = 0
        self._entries_max = entries_max
        self._windows: OrderedDict[EntityKey, EntityWindow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def missing(self, entities: Iterable[EntityKey]) -> list[EntityKey]:
        """Which of these must be loaded; those that are here count as used now."""
        absent = []
        for entity in entities:
            if entity in self._windows:
                self._windows.move_to_end(entity)
            else:
                absent.append(entity)
        return absent

    def hold(self, entities: Iterable[EntityKey], rows: Mapping[EntityKey, Sequence[Row]]) -> None:
        """Take loaded windows; an entity without rows begins empty."""
        for entity in entities:
            window = EntityWindow.from_rows(rows.get(entity, ()))
            self._windows[entity] = window
            self.entries += _size(window)

    def of(self, entity: EntityKey) -> EntityWindow:
        """A window that is here."""
        return self._windows[entity]

    def add(self, entity: EntityKey, row: Row) -> bool:
        """Put a row in its place; True when it came late."""
        self.entries += 1
        return self._windows[entity].add(*row)

    def __contains__(self, entity: EntityKey) -> bool:
        return entity in self._windows

    def label(self, entity: EntityKey, place: Place, changes: Sequence[Change]) -> None:
        """Say what labels tell of a transaction of a terminal that is here; replaces what was said of it before."""
        window = self._windows[entity]
        if window.frauds is None:
            window.frauds = FraudWindow()
        self.entries -= len(window.frauds)
        window.frauds.put(place, changes)
        self.entries += len(window.frauds)

    def prune(self, entity: EntityKey, horizon: int) -> bool:
        """Forget rows of an entity at or before `horizon`; True when some went."""
        window = self._windows[entity]
        before = window.labelled()
        gone = window.prune(horizon)
        if gone:
            self.entries -= gone + before - window.labelled()
        return gone > 0

    def drop(self, entity: EntityKey) -> None:
        """Forget an entity: its rows are gone."""
        window = self._windows.pop(entity, None)
        if window is not None:
            self.entries -= _size(window)

    def shrink(self) -> None:
        """Let the least recently used go until the bound holds."""
        while self.entries > self._entries_max and self._windows:
            _, window = self._windows.popitem(last=False)
            self.entries -= _size(window)

    def clear(self) -> None:
        """Drop everything."""
        self._windows.clear()
        self.entries = 0


def _size(window: EntityWindow) -> int:
    """The rows a window holds; an empty one takes memory too."""
    return len(window) + 1 + window.labelled()
