"""Seals a topic's records into evidence objects: one object per run and range of positions, never one per event.

The ledger row (range, sha256, key) and the checkpoint commit first; then the conditional put; then the row is complete.
So a crash repeats a put of the same bytes under the same key. Never a put inside a transaction that holds a head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from fraud_daemons.bus.port import Log, Record, TopicPartition, trimmed_away
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.checkpoints.port import Claim
from fraud_daemons.checkpoints.postgres import PostgresCheckpoints
from fraud_daemons.clock import Clock
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.errors import FatalFault
from fraud_daemons.evidence.keys import segment_key
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.database import Database
from fraud_daemons.state.segments import Segment, complete, intend, last_sha256, unwritten

INTENTS_AT_ONCE_MAX = 20
IDLE_REST_SECONDS = 0.5
LINGERS_MAX = 4
"""A topic on which more keeps coming lingers so many times longer: an object costs as much as a thousand records in it."""


class Entry(NamedTuple):
    """What the evidence says about a record of the bus: its position, its run, and a JSON value.

    Or about several of one run, at positions one after the other: then `value` is a fragment with a comma between two.
    """

    position: int
    platform_run_id: str
    value: Any
    records: int = 1

    @property
    def last(self) -> int:
        return self.position + self.records - 1


Entries = Callable[[Connection, TopicPartition, int, int], Sequence[Entry]]
"""(connection, partition, first position, limit) -> entries of up to so many records in order, the same every time it is
asked."""

Render = Callable[[Connection, Sequence[Record]], list[Any]]
"""Records of one run and range -> JSON values, one per record, the same every time it is asked."""


def rendered(bus: PostgresBus, render: Render, *, same_server: bool = True) -> Entries:
    """Entries made from the records themselves."""

    def read(connection: Connection, where: TopicPartition, position: int, limit: int) -> list[Entry]:
        with _log(bus, connection, same_server=same_server) as log:
            records = log.read({where: position}, limit=limit)
        entries: list[Entry] = []
        for run in dict.fromkeys(record.platform_run_id for record in records):
            mine = [record for record in records if record.platform_run_id == run]
            values = render(connection, mine)
            entries += [Entry(record.position, run, value) for record, value in zip(mine, values, strict=True)]
        return sorted(entries, key=lambda entry: entry.position)

    return read


@dataclass(frozen=True)
class Form:
    """How entries become an object: `encode` takes the segment's facts and its values, the same bytes for the same."""

    encode: Callable[[Mapping[str, Any], Sequence[Any]], bytes]
    extension: str


DOCUMENT: Final = Form(lambda facts, values: canonical_json({**facts, "records": list(values)}), "json")
"""One canonical JSON document: the segment's facts, and the values as `records`."""


@contextmanager
def _log(bus: PostgresBus, connection: Connection, *, same_server: bool) -> Iterator[Log]:
    """The bus inside the open transaction, or beside it where it is on another server."""
    if same_server:
        yield bus.log(connection)
    else:
        with bus.transaction() as log:
            yield log


class _Lingering(NamedTuple):
    """Since when records of a topic wait for their object, its head, and since when that stands there."""

    since: float
    head: int
    moved: float


class Sealer(PlainActivity):
    """An activity that turns a topic into evidence objects `<run>/<family>/…`. Needs `<schema>.segments`."""

    def __init__(
        self,
        *,
        name: str,
        family: str,
        schema: str,
        topics: Sequence[str],
        entries: Entries,
        database: Database,
        bus: PostgresBus,
        store: EvidenceStore,
        clock: Clock,
        log: Logger,
        segment_records_max: int,
        linger_seconds: float,
        same_server: bool = True,
        form: Form = DOCUMENT,
    ) -> None:
        self.name = name
        self._form = form
        self._family = family
        self._schema = schema
        self._topics = tuple(topics)
        self._entries = entries
        self._database = database
        self._bus = bus
        self._same_server = same_server
        self._store = store
        self._clock = clock
        self._log = log
        self._records_max = segment_records_max
        self._limit = segment_records_max
        self._linger = linger_seconds
        self._claim: Claim | None = None
        self._bodies: dict[str, bytes] = {}
        self._intended: list[Segment] | None = None
        self._lingering: dict[TopicPartition, _Lingering] = {}
        self._backlog: int | None = None

    def step(self) -> Outcome:
        if self._claim is None:
            return self._take_claim()
        if self._intended is None:  # a beginning, or a step whose fate is unknown: the ledger says
            with self._database.scope() as connection:
                self._intended = unwritten(connection, self._schema, self._family, limit=INTENTS_AT_ONCE_MAX)
        if self._intended:
            return self._write_all(self._claim, self._intended)
        return self._intend(self._claim)

    def forget(self) -> None:
        self._bodies.clear()
        self._intended = None
        self._lingering.clear()

    def shrink(self) -> bool:
        """Smaller segments: a range once fixed in the ledger stays as it is."""
        if self._limit == 1:
            return False
        self._limit //= 2
        return True

    def lag_records(self) -> int | None:
        return self._backlog

    def _take_claim(self) -> Outcome:
        with self._bus.scope() as connection:
            partitions = self._bus.partitions(connection)
        with self._database.scope() as connection:
            subscriptions = [(topic, p) for topic in self._topics for p in range(partitions[topic])]
            claim = PostgresCheckpoints(connection).claim(self.name, subscriptions)
        self._claim = claim
        self._log.info(events.CHECKPOINT_CLAIMED, activity=self.name, epoch=claim.epoch)
        return Outcome()

    def _intend(self, claim: Claim) -> Outcome:
        """Fix the next segments: ranges and hashes into the ledger, checkpoint past them, in one transaction."""
        made: list[tuple[Segment, bytes]] = []
        with self._database.scope() as connection:
            checkpoints = PostgresCheckpoints(connection)
            positions = checkpoints.positions(claim)
            with _log(self._bus, connection, same_server=self._same_server) as log:
                heads = log.heads(self._topics)
            self._backlog = 0
            for where, position in sorted(positions.items()):
                target = TopicPartition(*where)
                waiting = heads[target] - position
                self._backlog += waiting
                if waiting and self._ripe(target, waiting, heads[target]):
                    entries = self._entries(connection, target, position, self._limit)
                    if entries[0].position != position:  # entries need not be read through the bus
                        raise trimmed_away(*target, position=position, begins=entries[0].position)
                    made += self._segments(connection, target, entries)
                    checkpoints.advance(claim, {where: (position, entries[-1].last + 1)})
            intend(connection, self._schema, [segment for segment, _ in made])
        self._limit = min(self._records_max, self._limit * 2) if made else self._limit
        for segment, body in made:
            self._bodies[segment.object_key] = body
            self._lingering.pop(TopicPartition(segment.topic, segment.partition), None)
        self._intended = [segment for segment, _ in made]
        return Outcome(rest_seconds=0.0 if made else IDLE_REST_SECONDS)

    def _ripe(self, where: TopicPartition, records: int, head: int) -> bool:
        """A full segment goes at once; a part of one when nothing more came for the linger, or after some lingers."""
        now = self._clock.monotonic()
        before = self._lingering.get(where) or _Lingering(now, head, now)
        here = self._lingering[where] = before if before.head == head else _Lingering(before.since, head, now)
        return (
            records >= self._limit or now - here.moved >= self._linger or now - here.since >= LINGERS_MAX * self._linger
        )

    def _segments(
        self, connection: Connection, where: TopicPartition, entries: Sequence[Entry]
    ) -> list[tuple[Segment, bytes]]:
        made = []
        for run in dict.fromkeys(entry.platform_run_id for entry in entries):
            mine = [entry for entry in entries if entry.platform_run_id == run]
            previous = last_sha256(
                connection, self._schema, self._family, topic=where.topic, partition=where.partition, run=run
            )
            made.append(self._segment(where, run, mine, previous))
        return made

    def _segment(
        self, where: TopicPartition, run: str, entries: Sequence[Entry], previous: str
    ) -> tuple[Segment, bytes]:
        first, last = entries[0].position, entries[-1].last
        facts = {
            "platform_run_id": run,
            "family": self._family,
            "topic": where.topic,
            "partition": where.partition,
            "first_position": first,
            "last_position": last,
            "previous_sha256": previous,
        }
        body = self._form.encode(facts, [entry.value for entry in entries])
        sha256 = hashlib.sha256(body).hexdigest()
        key = segment_key(
            platform_run_id=run,
            family=self._family,
            topic=where.topic,
            partition=where.partition,
            first=first,
            last=last,
            sha256=sha256,
            extension=self._form.extension,
        )
        segment = Segment(
            run,
            self._family,
            where.topic,
            where.partition,
            first,
            last,
            sum(entry.records for entry in entries),
            previous,
            sha256,
            key,
        )
        return segment, body

    def _write_all(self, claim: Claim, segments: Sequence[Segment]) -> Outcome:
        """Put each, then mark them complete together. After a fault some are put again: the store compares them."""
        for segment in segments:
            body = self._bodies.get(segment.object_key) or self._rendered_again(segment)
            outcome = self._store.put_once(segment.object_key, body, sha256=segment.sha256)
            self._log.info(
                events.SEGMENT_SEALED,
                activity=self.name,
                key=segment.object_key,
                records=segment.records,
                put=outcome.value,
            )
        with self._database.scope() as connection:
            PostgresCheckpoints(connection).positions(claim)  # who slept through a successor's start completes nothing
            for segment in segments:
                complete(connection, self._schema, segment)
        self._bodies.clear()
        self._intended = None if len(segments) >= INTENTS_AT_ONCE_MAX else []  # more may wait from before a crash
        return Outcome(records=sum(segment.records for segment in segments))

    def _rendered_again(self, segment: Segment) -> bytes:
        """The bytes of a segment intended before a crash: same records, same bytes - or the ledger is right and we stop."""
        where = TopicPartition(segment.topic, segment.partition)
        with self._database.scope() as connection:
            span = segment.last_position - segment.first_position + 1
            entries = self._entries(connection, where, segment.first_position, span)
        mine = [entry for entry in entries if entry.platform_run_id == segment.platform_run_id]
        again, body = self._segment(where, segment.platform_run_id, mine, segment.previous_sha256)
        if again.sha256 != segment.sha256:
            raise FatalFault(
                f"segment {segment.object_key} renders to other bytes than its ledger row says; nothing was written",
                reason=f"evidence: {self._family} segment changed under the ledger",
            )
        return body
