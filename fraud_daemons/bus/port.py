"""The bus in words, before any method.

A **topic** is an append-only sequence of records, split into **partitions** by the record's key. A **position** counts
records in one partition from 0, without gaps. A **consumer** reads from a position and keeps that position itself, as
a checkpoint beside its state; the bus knows no consumers. A **producer** may number its records; the bus then takes
each number once, so that a publish repeated after a crash is absorbed. An append is all or nothing over all its
topics, and nothing of it can be read before it is whole. Records may be **trimmed** from the front of a partition, never
its newest one; a reader that still stands before them is refused, and never goes on behind a gap it did not see.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from fraud_daemons.errors import FatalFault


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class OutRecord(NamedTuple):
    """A record to append: `body` is JSON bytes, `key` chooses the partition."""

    topic: str
    key: str
    event_id: str
    platform_run_id: str
    body: bytes


class Record(NamedTuple):
    """A record as read. `appended_at` = seconds since the epoch on the bus's own clock."""

    topic: str
    partition: int
    position: int
    key: str
    event_id: str
    platform_run_id: str
    body: bytes
    appended_at: float


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: stable over processes, versions and adapters."""
    return zlib.crc32(key.encode()) % partitions


def check_no_gap(records: Sequence[Record], positions: Mapping[TopicPartition, int]) -> None:
    """Raises FatalFault when a partition's first record is not the one that was asked for: positions have no gaps, so it
    was trimmed away."""
    seen = None
    for record in records:
        where = record.topic, record.partition
        if where != seen:
            seen = where
            asked = positions[TopicPartition(*where)]
            if record.position != asked:
                raise trimmed_away(*where, position=asked, begins=record.position)


def trimmed_away(topic: str, partition: int, *, position: int, begins: int) -> FatalFault:
    """The fault of a reader whose position is not there any more."""
    return FatalFault(
        f"{topic} partition {partition} was trimmed up to {begins} and this reader stands at {position}: it would miss"
        f" {begins - position} records, so nothing was read; docs/OPERATIONS.md, A reader that was trimmed away, says what to do",
        reason=f"bus: {topic} begins at {begins}, {position} was trimmed away",
    )


class Log(Protocol):
    """The bus inside one transaction."""

    def append(
        self, records: Sequence[OutRecord], *, producer: str | None = None, sequences: Sequence[int] | None = None
    ) -> list[tuple[int, int] | None]:
        """Append and return (partition, position) per record; None for one whose sequence was already taken.

        With `producer`, `sequences` gives each record's number, ascending. Raises FatalFault for an unknown topic.
        """

    def read(self, positions: Mapping[TopicPartition, int], *, limit: int) -> list[Record]:
        """Up to `limit` records per partition from the given positions on, in order within each partition.

        Raises FatalFault for a position that was trimmed away."""

    def heads(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Next position per partition of `topics`."""

    def beginnings(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Position of the oldest record that is still there, per partition of `topics`; 0 before any trimming."""


class Bus(Protocol):
    """A bus: transactions on its log, and its topics."""

    def transaction(self) -> AbstractContextManager[Log]:
        """All of it or nothing. Raises the faults of `fraud_daemons.errors`, never a driver's."""

    def ensure_topics(self, topics: Sequence[str], *, partitions: int) -> None:
        """Create what is missing; a topic keeps the partitions it has."""
