"""How a side of an equation is read: from tables, from evidence objects, from sealed worlds. Always ids, never counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.domain.envelope import PROGRESS_MARK, source_key
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.evidence.archive_lines import read_line, unpacked
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.runtime.database import Database
from fraud_daemons.workers.obs_gov._equation_terms import (
    Archived,
    Either,
    Letters,
    Line,
    Logged,
    Objects,
    Query,
    Side,
    WorldSlice,
)
from fraud_daemons.workers.obs_gov._trimmed import ARCHIVE, Range, trimmed_ids
from fraud_daemons.worlds.sealed import open_world

EXAMPLES_MAX = 5
CONTROL = "control"
WORLD_ROWS_AT_ONCE = 5000


def _is_admitted_mark(record: Mapping[str, Any]) -> bool:
    return record.get("event_type") == PROGRESS_MARK and "quarantine_id" not in record


@dataclass(frozen=True)
class Readers:
    """What sides are read from."""

    database_of: Callable[[str], Database]
    store: EvidenceStore
    worlds_dir: Path

    def ids(self, side: Side, run: str) -> Counter[str]:
        """The side's ids with how often each occurs."""
        found = Counter[str]()
        for batch in self.batches(side, run):
            found.update(batch)
        return found

    def batches(self, side: Side, run: str) -> Iterator[list[str]]:
        """The side's ids in pieces, so that the worker can beat between them: a run may have a million events."""
        match side:
            case Query():
                yield [row[0] for row in self.rows(side.dsn, side.sql, run)]
            case Logged():
                yield from self._of_log(side, run)
            case Objects():
                yield from self._of_objects(side, run)
            case Archived():
                yield from self._of_archive(run)
            case WorldSlice():
                yield from self._of_worlds(run)
            case Either():
                for query in side.of:
                    yield from self.batches(query, run)

    def explained(self, letters: Query | Letters, run: str) -> Counter[str]:
        """Ids whose loss a dead letter explains."""
        if isinstance(letters, Query):
            return self.ids(letters, run)
        found = sum((self.ids(query, run) for query in letters.of), Counter[str]())
        if letters.renamed is None or not found:
            return found
        names = dict(self.rows(letters.renamed.dsn, letters.renamed.sql, run))
        return Counter(names.get(identity, identity) for identity in found.elements())

    def rows(self, dsn: str, sql: str, run: str) -> list[tuple[Any, ...]]:
        """One query in one short transaction: nothing is computed while it is open."""
        with self.database_of(dsn).scope() as connection:
            return connection.execute(sql.encode(), {"run": run}).fetchall()

    def _of_log(self, side: Logged, run: str) -> Iterator[list[str]]:
        """What is there and what was trimmed, in one statement: a record that is trimmed meanwhile is in one of the two."""
        nothing = ", null" * len(Range._fields)
        rows = self.rows(
            side.dsn, f"select l.*{nothing} from ({side.sql}) as l union all select null, t.* from ({side.trimmed_sql}) as t", run
        )  # fmt: skip
        yield [row[0] for row in rows if row[0] is not None]
        yield from trimmed_ids(self.store, run, [Range(*row[1:]) for row in rows if row[0] is None], side)

    def _of_objects(self, side: Objects, run: str) -> Iterator[list[str]]:
        for found in self.store.list(f"{run}/{side.family}/"):
            try:
                document = orjson.loads(self.store.get(found.key))
                records = document.get("records", [document])
                yield [record[side.field] for record in records if not _is_admitted_mark(record)]
            except (ValueError, LookupError, AttributeError):  # nothing of ours: named as surplus, and stops no report
                yield [f"not evidence: {found.key}"]

    def _of_archive(self, run: str) -> Iterator[list[str]]:
        """One object at a time; the place of a line is that of its object's name."""
        for found in self.store.list(f"{run}/{ARCHIVE}/"):
            topic, partition, _ = found.key.rpartition("/")[2].split("-", 2)
            if topic == CONTROL:  # requests flow there while the report is made, the one for it among them
                continue
            try:
                lines = [read_line(line) for line in unpacked(self.store.get(found.key))]
                yield [f"{topic}|{int(partition)}|{line.position}|{line.event_id}" for line in lines]
            except ValueError:
                yield [f"not an archive object: {found.key}"]

    def _of_worlds(self, run: str) -> Iterator[list[str]]:
        """Event ids of each world's outputs up to the producer's cursors."""
        cursors = self.rows(
            "WSP_CHECKPOINT_DSN",
            "select world, output, next_index from wsp.wsp_checkpoint where platform_run_id = %(run)s",
            run,
        )
        worlds = {name: open_world(self.worlds_dir, name) for name in {cursor[0] for cursor in cursors}}
        for name, output, stop in cursors:
            world = worlds[name]
            for start in range(0, stop, WORLD_ROWS_AT_ONCE):
                rows = world.read(output, start, min(WORLD_ROWS_AT_ONCE, stop - start))
                yield [
                    derived_id("event", world.scenario_run_id, output, source_key(output, row["payload"]))
                    for row in rows
                ]


def balancing(readers: Readers, line: Line, run: str) -> Generator[None, None, dict[str, Any]]:
    """One equation, piece by piece: how many on the left, what is missing on the right, what is surplus, with examples."""
    left, right = Counter[str](), Counter[str]()
    for side, ids in ((line.left, left), (line.right, right)):
        for batch in readers.batches(side, run):
            ids.update(batch)
            yield
    missing, surplus = left - right, Counter[str]() if line.subset else right - left
    explained = readers.explained(line.letters, run) if line.letters and missing else Counter[str]()
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
