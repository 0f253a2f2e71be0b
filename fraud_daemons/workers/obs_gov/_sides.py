"""How a side of an equation is read: from tables, from evidence objects, from sealed worlds. Always ids, never counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.domain.envelope import PROGRESS_MARK, source_key
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.runtime.database import Database
from fraud_daemons.workers.obs_gov._equations import Line, Objects, Query, Side, WorldSlice
from fraud_daemons.worlds.sealed import open_world

EXAMPLES_MAX = 5
WORLD_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class Readers:
    """What sides are read from."""

    database_of: Callable[[str], Database]
    store: EvidenceStore
    worlds_dir: Path

    def ids(self, side: Side, run: str) -> Counter[str]:
        """The side's ids with how often each occurs."""
        match side:
            case Query():
                return Counter(row[0] for row in self.rows(side.dsn, side.sql, run))
            case Objects():
                return Counter(self._object_ids(side, run))
            case WorldSlice():
                return Counter(self._world_ids(run))

    def rows(self, dsn: str, sql: str, run: str) -> list[tuple[Any, ...]]:
        """One query in one short transaction: nothing is computed while it is open."""
        with self.database_of(dsn).scope() as connection:
            return connection.execute(sql.encode(), {"run": run}).fetchall()

    def _object_ids(self, side: Objects, run: str) -> Iterator[str]:
        for found in self.store.list(f"{run}/{side.family}/"):
            document = orjson.loads(self.store.get(found.key))
            for record in document.get("records", [document]):
                if record.get("event_type") != PROGRESS_MARK:
                    yield record[side.field]

    def _world_ids(self, run: str) -> Iterator[str]:
        """Event ids of each world's outputs up to the producer's cursors."""
        cursors = self.rows(
            "WSP_CHECKPOINT_DSN",
            "select world, output, next_index from wsp.wsp_checkpoint where platform_run_id = %(run)s",
            run,
        )
        for name, output, stop in cursors:
            world = open_world(self.worlds_dir, name)
            for start in range(0, stop, WORLD_ROWS_AT_ONCE):
                for row in world.read(output, start, min(WORLD_ROWS_AT_ONCE, stop - start)):
                    yield derived_id("event", world.scenario_run_id, output, source_key(output, row["payload"]))


def balance(readers: Readers, line: Line, run: str) -> dict[str, Any]:
    """One equation: how many on the left, what is missing on the right, what is surplus there, with examples."""
    left, right = readers.ids(line.left, run), readers.ids(line.right, run)
    missing, surplus = left - right, right - left
    explained = readers.ids(line.letters, run) if line.letters and missing else Counter[str]()
    dead = missing & explained
    missing -= dead
    return {
        "name": line.name,
        "left": line.left.what,
        "right": line.right.what,
        "count": left.total(),
        "missing": missing.total(),
        "surplus": surplus.total(),
        "dead_lettered": dead.total(),
        "examples": [f"missing {i}" for i in sorted(missing)[:EXAMPLES_MAX]]
        + [f"surplus {i}" for i in sorted(surplus)[:EXAMPLES_MAX]],
    }
