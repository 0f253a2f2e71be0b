"""Trims the bus: records that every reader has passed and the archive holds go from the front of a partition.

Before a stretch goes, each of its archive objects is read back and compared with the ledger's hash, and the lines in it
with the very rows that are deleted, in the transaction of the deletion. Whatever does not agree stays, and is named.

It never trims a partition's newest record, so a reader that stands before the beginning always meets a record that is not
the one it asked for, and is refused. It never waits for anybody: who stands in the way is told in the heartbeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraud_daemons.config.dsns import EVENT_BUS_DSN
from fraud_daemons.domain.envelope import TRUTH
from fraud_daemons.errors import FatalFault, TransientFault
from fraud_daemons.evidence.archive_lines import ids_sha256, read_line, unpacked
from fraud_daemons.observability import events
from fraud_daemons.observability.disk import taken_bytes
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.database import connections
from fraud_daemons.runtime.worker import WorkerContext
from fraud_daemons.state import trimming
from fraud_daemons.state.segments import Segment
from fraud_daemons.state.trimming import Extent, Gone, Stand, Where, behind_most

RECORDS_AT_ONCE_MAX: Final = 5000
"""Deleted in one transaction: a tenth of a second, and an outage repeats no more than that."""
SEGMENTS_AT_ONCE_MAX: Final = 50
"""Objects read back for one stretch: a beat must fit in between, on a slow store too."""
MEASURE_SECONDS: Final = 60.0
WAITS_FOR: Final = {TRUTH: "labels"}
"""The feature plane asks the truth topic whether a world has a truth feed, until a mark of it has come on `labels`. So
truth goes only while everybody has read all of labels."""


class NotAsArchived(Exception):
    """Rows and objects of a stretch differ: rolls its deletion back."""


@dataclass(frozen=True)
class Look:
    """What one round found out before it trims anything."""

    extents: Mapping[Where, Extent]
    stands: Mapping[Where, Sequence[Stand]]

    def kept(self) -> int:
        return sum(extent.head - extent.begins for extent in self.extents.values())


@dataclass(frozen=True)
class Stretch:
    """A part of a partition between two boundaries of the ledger, and the objects that hold it."""

    where: Where
    first: int
    end: int
    segments: tuple[Segment, ...]


class Trimmer(PlainActivity):
    """One stretch of one partition a step; a round over all partitions, then a rest."""

    name = "archive_writer.trim"

    def __init__(self, context: WorkerContext) -> None:
        get = context.profile.get
        self._enabled = get("trim.log")
        self._context = context
        self._age_seconds = get("trim.log_age_seconds")
        self._records_max = get("trim.log_records_max")
        self._rest_seconds = get("trim.interval_seconds")
        self._trimmed = 0
        self._stored: dict[str, int] = {}
        self._measured_at = -MEASURE_SECONDS
        self._kept: int | None = None
        self._held_back: dict[str, str] = {}
        self._differing: dict[Where, str] = {}

    def step(self) -> Outcome:
        try:
            return self._step()
        except TransientFault as fault:  # the sealer speaks for the worker: it archives while another server is away
            self._held_back = {"all topics": fault.reason}
            return Outcome(rest_seconds=self._rest_seconds)

    def _step(self) -> Outcome:
        self._measure()
        look = self._look()
        self._kept, self._held_back = look.kept(), {}
        if not self._enabled:
            return Outcome(rest_seconds=self._rest_seconds)
        surplus = self._kept - self._records_max
        fullest = sorted(look.extents, key=lambda where: look.extents[where].begins - look.extents[where].head)
        for where in fullest:
            stretch = self._stretch(look, where, surplus=surplus)
            if stretch is not None and self._trim(stretch):
                return Outcome(records=stretch.end - stretch.first)
        return Outcome(rest_seconds=self._rest_seconds)

    def forget(self) -> None:
        self._differing.clear()

    def detail(self) -> dict[str, Any]:
        """For the heartbeat: records on the bus, those trimmed since the process began, who holds which topic back; and what
        the log, the database it stands in and the embedded object store take, in bytes."""
        log = {"kept": self._kept, "trimmed": self._trimmed, "held_back": self._held_back}
        return {"log": log, "stored_bytes": self._stored}

    def _measure(self) -> None:
        """For those who ask no database: `platform status` shows the figures."""
        now = self._context.clock.monotonic()
        if now - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at, profile = now, self._context.profile
        with self._context.database_of(EVENT_BUS_DSN).scope() as bus:
            self._stored = trimming.stored_bytes(bus)
        if profile.embedded_objectstore:
            self._stored["objects"] = taken_bytes(profile.path("objects"))

    def _look(self) -> Look:
        with connections(self._context.database_of) as at:
            return Look(stands=trimming.stands(at), extents=trimming.extents(trimming.bus_of(at)))

    def _stretch(self, look: Look, where: Where, *, surplus: int) -> Stretch | None:
        """The next stretch that is due and that nobody needs; None, with the reason kept, when there is none."""
        extent = look.extents[where]
        last_end = extent.head - 1  # the newest record stays
        if last_end <= extent.begins:
            return None
        with connections(self._context.database_of) as at:
            archive = at(self._context.worker.dsn)
            ledger = trimming.ledger_from(archive, where, extent.begins, limit=SEGMENTS_AT_ONCE_MAX)
            blocks = _blocks(where, extent.begins, ledger)
            ends = [block.end - 1 for block in blocks]
            old = trimming.old_enough(trimming.bus_of(at), where, ends, age_seconds=self._age_seconds)
        found = None
        for block in blocks:
            due = block.end - 1 in old or block.end - extent.begins <= surplus
            if not due or block.end > last_end or (found and block.end - found.first > RECORDS_AT_ONCE_MAX):
                break
            if (holder := self._holder(look, where, block.end)) is not None:
                self._held_back[where[0]] = holder
                break
            found = block if found is None else Stretch(where, found.first, block.end, found.segments + block.segments)
        return found

    def _holder(self, look: Look, where: Where, end: int) -> str | None:
        """Who still needs a record below `end`."""
        if where in self._differing:
            return self._differing[where]
        behind = behind_most(look.stands, where)
        if behind is not None and behind.position < end:
            return behind.who
        if (other := WAITS_FOR.get(where[0])) is not None:
            for place, extent in look.extents.items():
                behind = behind_most(look.stands, place)
                if place[0] == other and behind is not None and behind.position < extent.head:
                    return f"{behind.who} on {other}"
        return None

    def _trim(self, stretch: Stretch) -> bool:
        try:
            expected = self._archived(stretch)
            with self._context.database_of(EVENT_BUS_DSN).scope() as bus:
                gone = trimming.trim(bus, stretch.where, first=stretch.first, end=stretch.end)
                if gone != expected:
                    raise NotAsArchived(f"the archive of {stretch.first} to {stretch.end - 1} holds other records")
        except NotAsArchived as difference:
            self._differing[stretch.where] = self._held_back[stretch.where[0]] = str(difference)
            self._context.log.error(
                events.TRIMMING_REFUSED, topic=stretch.where[0], partition=stretch.where[1], reason=str(difference)
            )
            return False
        records = stretch.end - stretch.first
        self._trimmed += records
        self._kept = (self._kept or records) - records
        self._context.log.info(
            events.LOG_TRIMMED, topic=stretch.where[0], partition=stretch.where[1], records=records, begins=stretch.end
        )
        return True

    def _archived(self, stretch: Stretch) -> dict[str, Gone]:
        """What the objects of a stretch hold, per run, in the words of the deletion; read from the store, not from memory."""
        places: dict[str, list[tuple[int, str]]] = {}
        for segment in stretch.segments:
            try:
                body = self._context.store.get(segment.object_key)
            except FatalFault as fault:
                raise NotAsArchived(f"{segment.object_key}: {fault.reason}") from fault
            if hashlib.sha256(body).hexdigest() != segment.sha256:
                raise NotAsArchived(f"{segment.object_key} is not what the ledger says")
            lines = [read_line(line) for line in unpacked(body)]
            places.setdefault(segment.platform_run_id, []).extend((line.position, line.event_id) for line in lines)
        return {run: Gone(len(found), ids_sha256(found)) for run, found in places.items()}


def _blocks(where: Where, begins: int, ledger: Sequence[tuple[Segment, bool]]) -> list[Stretch]:
    """The ledger's segments of a partition as stretches without a gap: those of several runs lie between one another, and
    a stretch ends where all of them end. Only what is known to be put, and only as far as it is whole."""
    blocks: list[Stretch] = []
    first, open_segments = begins, list[Segment]()
    for segment, complete in ledger:
        if not complete:
            break
        open_segments.append(segment)
        end = max(each.last_position for each in open_segments) + 1
        if sum(each.records for each in open_segments) == end - first:
            blocks.append(Stretch(where, first, end, tuple(open_segments)))
            first, open_segments = end, []
    return blocks
