"""Who has not caught up: checkpoints against the log, evidence begun, streams begun. Read from the tables, never from a
worker's own counters.

`behind` speaks of the platform, whatever runs its records belong to; `behind_on` speaks of one run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state import trimming
from fraud_daemons.state.archive_ends import ARCHIVE_DSN, archive_ends
from fraud_daemons.state.every_server import every_server
from fraud_daemons.state.trimming import Where

_SQL = "fraud_daemons.state.sql"
_ARCHIVE: Final = "archive_writer.archive"
"""Whose ledger holds, by run, every record before its checkpoints."""
_BEGUN: Final = (
    ("WSP_CHECKPOINT_DSN", "progress_streams.sql"),
    (IG_ADMISSION_DSN, "progress_receipts.sql"),
    ("DLA_INDEX_DSN", "progress_audits.sql"),
    (ARCHIVE_DSN, "progress_archive.sql"),
)
"""What is begun and not ended, per component: DSN name, statement giving (stage, what, records), of all runs or of one."""


@dataclass(frozen=True)
class Behind:
    """A stage that has not caught up: who, on what, by how many records."""

    stage: str
    what: str
    records: int

    def __str__(self) -> str:
        return f"{self.stage} is {self.records} behind on {self.what}"


class _Reader(NamedTuple):
    """Who needs a partition's records from `position` on."""

    worker: str
    where: Where
    position: int


def behind(at: ConnectionOf) -> list[Behind]:
    """Every stage of the platform that is not through, furthest behind first."""
    # checkpoints before heads: what is published meanwhile may show as still to come, never as passed
    readers = _checkpoints(at)
    found = _begun(at, None)
    heads = _heads(at)
    records = Counter[tuple[str, str]]()
    for reader in readers:
        records[reader.worker, reader.where[0]] += max(0, heads.get(reader.where, 0) - reader.position)
    return _furthest_first(records, found)


def behind_on(at: ConnectionOf, run: str) -> list[Behind]:
    """Every stage that is not through with a run, furthest behind first: records of the run that a reader has not passed,
    and what is begun for it. Empty: at the moment when the heads were read nothing of it was under way.

    That holds although servers are read one after the other, for this order: checkpoints, what is begun, heads, log. A step
    moves a record on in one transaction on its own server - the checkpoint past it, and what comes of it onto the bus, into
    the outbox, into a ledger. Made after its checkpoint was read, the record itself is still counted; made before, what
    comes of it was there when the rest was read, and so on down the line. Orders to redrive are read before the outbox, for
    they have no checkpoint and publish as a step does; a stream before the heads, for it publishes until it ends.

    Flows that wait for their context and actions that wait for their executor are not asked for: the report's equations
    miss them. Requests for a report are no records of a run's line, and whoever asks for one would find his own.
    """
    readers = _checkpoints(at)
    readers += _not_begun(at, readers)
    found = [*redrives(at, run), *_begun(at, run)]
    heads = _heads(at)
    records = Counter[tuple[str, str]]()
    archived = archive_ends(at, run, heads)
    for where, here in _by_partition(readers).items():
        counts = _unread(
            at,
            run,
            where,
            here,
            head=heads.get(where, 0),
            newest_archived=archived[where].last_position if where in archived else -1,
        )
        for reader in here:
            records[reader.worker, where[0]] += sum(n for stand, n in counts.items() if stand >= reader.position)
    return _furthest_first(records, found)


def _checkpoints(at: ConnectionOf) -> list[_Reader]:
    return [
        _Reader(worker, (topic, partition), position)
        for connection in every_server(at)
        for worker, topic, partition, position in connection.execute(
            'select worker, topic, "partition", "position" from checkpoints.positions'
        )
    ]


def _not_begun(at: ConnectionOf, readers: Sequence[_Reader]) -> list[_Reader]:
    """Those that the packs name and that have no checkpoint yet: everything is still before them."""
    begun = {(reader.worker.partition(".")[0], reader.where) for reader in readers}
    named = trimming.subscribers(at(EVENT_BUS_DSN))
    return [_Reader(worker, where, 0) for where, worker in named if (worker, where) not in begun]


def _begun(at: ConnectionOf, run: str | None) -> list[Behind]:
    """Outboxes and `_BEGUN`, of one run or of all."""
    of = {"run": run}
    found = [
        Behind(*row)
        for connection in every_server(at)
        for row in connection.execute(load(_SQL, "progress_outbox.sql"), of)
    ]
    return found + [Behind(*row) for name, statement in _BEGUN for row in at(name).execute(load(_SQL, statement), of)]


def redrives(at: ConnectionOf, run: str) -> list[Behind]:
    """Redrives of the run's letters that are ordered and have not ended, whose record is nowhere else."""
    return [
        Behind(*row)
        for connection in every_server(at)
        for row in connection.execute(load(_SQL, "progress_redrives.sql"), {"run": run})
    ]


def _heads(at: ConnectionOf) -> dict[Where, int]:
    rows = at(EVENT_BUS_DSN).execute('select topic, "partition", next_position from bus.heads')
    return {(topic, partition): position for topic, partition, position in rows}


def _by_partition(readers: Sequence[_Reader]) -> Mapping[Where, list[_Reader]]:
    found = defaultdict[Where, list[_Reader]](list)
    for reader in readers:
        found[reader.where].append(reader)
    return found


def _unread(
    at: ConnectionOf, run: str, where: Where, readers: Sequence[_Reader], *, head: int, newest_archived: int
) -> Counter[int]:
    """How many records of a run stand at or behind each reader's position and before the next reader's, up to the head."""
    stands = sorted({reader.position for reader in readers if reader.position < head})
    archived = max((reader.position for reader in readers if reader.worker == _ARCHIVE), default=0)
    counts = Counter[int]()
    for first, end in _stretches(stands, archived=archived, newest_archived=newest_archived, head=head):
        rows = at(EVENT_BUS_DSN).execute(
            load(_SQL, "progress_unread.sql"),
            {"run": run, "topic": where[0], "partition": where[1], "first": first, "end": end, "stands": stands},
        )
        counts.update(dict(rows.fetchall()))
    return counts


def _stretches(stands: Sequence[int], *, archived: int, newest_archived: int, head: int) -> Iterator[tuple[int, int]]:
    """Where a run's unread records can be, as [first, end): from the slowest reader on, but not between the run's newest
    record in the archive's ledger and the archive's checkpoint. So a reader that is held far back costs nothing to those
    who ask for a run that ended before."""
    if not stands:
        return
    for first, end in (stands[0], min(newest_archived + 1, archived, head)), (max(stands[0], archived), head):
        if first < end:
            yield first, end


def _furthest_first(records: Mapping[tuple[str, str], int], found: Sequence[Behind]) -> list[Behind]:
    unread = [Behind(worker, topic, count) for (worker, topic), count in records.items() if count]
    return sorted([*unread, *found], key=lambda stage: (-stage.records, stage.stage, stage.what))
