"""One run as its archive objects have it, read without any database: in order, or one record by its place.

What is missing or altered is named, never passed over: an object's key holds the range of its positions and how the
SHA-256 of its bytes begins. A few unpacked objects are held, never a whole run. It trusts no ledger and writes nothing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from fraud_daemons.errors import FatalFault
from fraud_daemons.evidence.archive_lines import ArchivedRecord, read_record, unpacked
from fraud_daemons.evidence.keys import SegmentPlace, place_of
from fraud_daemons.evidence.port import ObjectFacts

FAMILY: Final = "archive"
OBJECTS_HELD_MAX: Final = 6
"""Unpacked objects held: the one that is read, and for each topic that it refers to the one before and after."""
PROBLEMS_MAX: Final = 100
"""Named at most; all are counted."""


class Objects(Protocol):
    """Where the objects are: a store, or a folder that holds a copy."""

    def list(self, prefix: str) -> Iterator[ObjectFacts]:
        """Every object whose key begins with `prefix`."""

    def get(self, key: str) -> bytes:
        """Its bytes. Raises FatalFault when there is none."""


class Problem(NamedTuple):
    """Why the archive is not whole: which object, and what is wrong with it."""

    object: str
    what: str


class Problems:
    """What was found wrong: each told once, all counted, a bounded number kept."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, key: str, what: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.kept) < PROBLEMS_MAX:
            self.kept.append(Problem(key, what))


class ArchivedRun:
    """The objects of `run` below `<run>/archive/`. Raises ValueError for a run that has none."""

    def __init__(self, objects: Objects, run: str) -> None:
        self.run = run
        self.problems = Problems()
        self.objects_read: Counter[str] = Counter()
        self._objects = objects
        self._held: OrderedDict[str, list[ArchivedRecord]] = OrderedDict()
        self._judged: set[str] = set()
        self._places: dict[tuple[str, int], list[SegmentPlace]] = {}
        for facts in objects.list(f"{run}/{FAMILY}/"):
            place = place_of(facts.key)
            if place is None:
                self.problems.add(facts.key, "is no archive object")
            else:
                self._places.setdefault((place.topic, place.partition), []).append(place)
        for places in self._places.values():
            places.sort(key=lambda place: (place.first, place.last))

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def objects_of(self, topic: str) -> int:
        """How many objects a topic has."""
        return sum(len(places) for (name, _), places in self._places.items() if name == topic)

    def records(self, topic: str) -> Iterator[tuple[int, ArchivedRecord]]:
        """(partition, record) of a topic, by partition and position."""
        for (name, partition), places in sorted(self._places.items()):
            for place in places if name == topic else ():
                for record in self._content(place):
                    yield partition, record

    def record_at(self, topic: str, partition: int, position: int) -> ArchivedRecord | None:
        """The record at a place; None when no object of this run that can be read holds it."""
        places = self._places.get((topic, partition), [])
        index = bisect_right(places, position, key=lambda place: place.first) - 1
        if index < 0 or position > places[index].last:
            return None
        content = self._content(places[index])
        where = bisect_right(content, position, key=lambda record: record.position) - 1
        return content[where] if where >= 0 and content[where].position == position else None

    def name_of(self, topic: str, partition: int, position: int) -> str:
        """The key of the object that holds a place, or how the key of one that is not there would begin."""
        before = [p for p in self._places.get((topic, partition), []) if p.first <= position]
        if before and position <= before[-1].last:
            return before[-1].key
        return f"{self.run}/{FAMILY}/{topic}-{partition:03d}-…{position}…"

    def look_for_holes(self, topics: Sequence[str]) -> None:
        """Name the ranges between this run's objects that no object of any run in the archive holds, and overlaps."""
        holes: list[SegmentPlace] = []
        for (topic, partition), places in sorted(self._places.items()):
            if topic not in topics:
                continue
            for before, after in pairwise(places):
                if after.first <= before.last:
                    self.problems.add(after.key, f"its range begins within that of {before.key}")
                elif after.first > before.last + 1:
                    holes.append(
                        SegmentPlace(self.run, FAMILY, topic, partition, before.last + 1, after.first - 1, "", "")
                    )
        for hole in self._without_what_others_hold(holes):
            key = f"{self.run}/{FAMILY}/{hole.topic}-{hole.partition:03d}-{hole.first:015d}-{hole.last:015d}-*"
            self.problems.add(key, "no object of this archive holds this range: one or more are missing")

    def _without_what_others_hold(self, holes: Sequence[SegmentPlace]) -> list[SegmentPlace]:
        """Positions between two objects of a run may be those of other runs; their keys are only asked for then."""
        if not holes:
            return []
        others: dict[tuple[str, int], list[tuple[int, int]]] = {}
        wanted = {(hole.topic, hole.partition) for hole in holes}
        for facts in self._objects.list(""):
            place = place_of(facts.key)
            if place is None or place.family != FAMILY or place.platform_run_id == self.run:
                continue
            if (place.topic, place.partition) in wanted:
                others.setdefault((place.topic, place.partition), []).append((place.first, place.last))
        return [hole for hole in holes if not _covered(hole, sorted(others.get((hole.topic, hole.partition), [])))]

    def _content(self, place: SegmentPlace) -> list[ArchivedRecord]:
        """The records of an object, remembered for a while; what is wrong with it is noted once."""
        held = self._held.get(place.key)
        if held is None:
            held = self._read(place)
            self._held[place.key] = held
            if len(self._held) > OBJECTS_HELD_MAX:
                self._held.popitem(last=False)
        self._held.move_to_end(place.key)
        return held

    def _read(self, place: SegmentPlace) -> list[ArchivedRecord]:
        first_look = place.key not in self._judged
        self._judged.add(place.key)
        wrong = self.problems if first_look else Problems()
        self.objects_read[place.topic] += first_look
        try:
            body = self._objects.get(place.key)
        except FatalFault as fault:
            wrong.add(place.key, f"cannot be read: {fault}")
            return []
        found = hashlib.sha256(body).hexdigest()
        if not found.startswith(place.sha256_begins):
            wrong.add(place.key, f"was altered: its sha256 is {found}, its name says {place.sha256_begins}…")
        try:
            records = [read_record(line) for line in unpacked(body)]
        except ValueError as error:
            wrong.add(place.key, f"is not what the archive writes: {error}")
            return []
        positions = [record.position for record in records]
        if not positions or (positions[0], positions[-1]) != (place.first, place.last):
            wrong.add(place.key, "does not hold the range that its name says")
        if positions != sorted(set(positions)):
            wrong.add(place.key, "its records are not in order")
            records.sort(key=lambda record: record.position)
        return records


def _covered(hole: SegmentPlace, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether ranges, sorted by their first position, leave nothing of the hole."""
    position = hole.first
    for first, last in ranges:
        if first > position:
            break
        position = max(position, last + 1)
    return position > hole.last
