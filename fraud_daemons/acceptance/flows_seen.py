"""Which flows were bound, which were decided and how often: two sets compared on disk, however large the run.

A private SQLite file that is gone when it is closed; nothing of it is state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

ROWS_AT_ONCE: Final = 5_000


class Bound(NamedTuple):
    """Where a flow stands on flows.bound."""

    flow_id: str
    partition: int
    position: int


class FlowsSeen:
    """Flows by id. Use as a context manager."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")  # SQLite's own temporary file
        self._rows.execute(
            'create table flows (flow_id text primary key, "partition" int, "position" int, decided int not null default 0)'
            " without rowid"
        )
        self._waiting: list[str] = []

    def __enter__(self) -> FlowsSeen:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def bound(self, flows: Iterable[Bound]) -> None:
        """Flows that were bound; the first place of each counts."""
        self._rows.executemany('insert or ignore into flows (flow_id, "partition", "position") values (?, ?, ?)', flows)

    def decided(self, flow_id: str) -> None:
        """One more decision about a flow."""
        self._waiting.append(flow_id)
        if len(self._waiting) >= ROWS_AT_ONCE:
            self._flush()

    def undecided(self) -> Iterator[Bound]:
        """Bound flows without a decision, in order of their places."""
        self._flush()
        rows = self._rows.execute(
            'select flow_id, "partition", "position" from flows where decided = 0 order by "partition", "position"'
        )
        return (Bound(*row) for row in rows)

    def unbound(self) -> Iterator[str]:
        """Decided flows that no record of flows.bound is there for."""
        self._flush()
        return (row[0] for row in self._rows.execute('select flow_id from flows where "partition" is null order by 1'))

    def decided_more_than_once(self) -> Iterator[tuple[str, int]]:
        """(flow, decisions) of flows that were decided again."""
        self._flush()
        return iter(self._rows.execute("select flow_id, decided from flows where decided > 1 order by 1"))

    def _flush(self) -> None:
        self._rows.executemany(
            "insert into flows (flow_id, decided) values (?, 1) on conflict (flow_id) do update set decided = decided + 1",
            [(flow_id,) for flow_id in self._waiting],
        )
        self._waiting.clear()
