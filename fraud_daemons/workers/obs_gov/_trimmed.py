"""What was trimmed from the bus, read back from the archive's objects and held against the hash that was taken when it went."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fraud_daemons.evidence.archive_lines import ids_sha256, read_record, unpacked
from fraud_daemons.evidence.keys import segment_place
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.workers.obs_gov._equation_terms import Logged

ARCHIVE = "archive"


class Range(NamedTuple):
    """A row of `bus.trimmed` for one run."""

    topic: str
    partition: int
    first_position: int
    last_position: int
    ids_sha256: str

    def __str__(self) -> str:
        return f"{self.topic}|{self.partition}|{self.first_position}-{self.last_position}"


def trimmed_ids(store: EvidenceStore, run: str, ranges: Sequence[Range], side: Logged) -> Iterator[list[str]]:
    """The ids of a side's trimmed records, an object at a time. A range whose objects do not hold what was trimmed gives one
    more id that says so, and that nobody has on the other side."""
    for topic in sorted({each.topic for each in ranges}):
        mine = sorted(each for each in ranges if each.topic == topic)
        yield from _of_topic(store, run, mine, side)


def _of_topic(store: EvidenceStore, run: str, ranges: Sequence[Range], side: Logged) -> Iterator[list[str]]:
    starts = [(each.partition, each.first_position) for each in ranges]
    held: dict[Range, list[tuple[int, str]]] = {each: [] for each in ranges}
    for found in store.list(f"{run}/{ARCHIVE}/{ranges[0].topic}-"):
        partition, first, last = segment_place(found.key)
        at = bisect_right(starts, (partition, first)) - 1
        if at < 0 or ranges[at].partition != partition or last > ranges[at].last_position:
            continue  # still on the bus
        try:
            records = [read_record(line) for line in unpacked(store.get(found.key))]
            held[ranges[at]] += [(record.position, record.event_id) for record in records]
            topic = ranges[at].topic
            yield [side.id_of(topic, partition, record) for record in records if side.counts(topic, record)]
        except ValueError:
            yield [f"not an archive object: {found.key}"]
    yield [
        f"trimmed from the bus, and not as trimmed in the archive: {each}"
        for each, places in held.items()
        if ids_sha256(places) != each.ids_sha256
    ]
