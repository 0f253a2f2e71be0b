"""The bus in a dictionary: the same contract as the real ones, for unit tests of handlers. Not durable."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fraud_daemons.bus.port import Log, OutRecord, Record, TopicPartition, check_no_gap, partition_of
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.errors import FatalFault


class MemoryBus:
    """All topics of one process. A transaction holds the lock, so readers never see half of one."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._partitions: dict[str, int] = {}
        self._records: dict[TopicPartition, list[Record]] = {}
        self._sequences: dict[tuple[str, TopicPartition], int] = {}
        self._begin: dict[TopicPartition, int] = {}

    def ensure_topics(self, topics: Sequence[str], *, partitions: int) -> None:
        with self._lock:
            for topic in topics:
                count = self._partitions.setdefault(topic, partitions)
                for partition in range(count):
                    self._records.setdefault(TopicPartition(topic, partition), [])

    @contextmanager
    def transaction(self) -> Iterator[Log]:
        with self._lock:
            before = {where: len(records) for where, records in self._records.items()}
            sequences = dict(self._sequences)
            try:
                yield self
            except BaseException:
                for where, length in before.items():
                    del self._records[where][length:]
                self._sequences = sequences
                raise

    def append(
        self, records: Sequence[OutRecord], *, producer: str | None = None, sequences: Sequence[int] | None = None
    ) -> list[tuple[int, int] | None]:
        answer: list[tuple[int, int] | None] = []
        for index, record in enumerate(records):
            if record.topic not in self._partitions:
                raise FatalFault(f"there is no topic {record.topic!r}", reason=f"bus: no topic {record.topic}")
            where = TopicPartition(record.topic, partition_of(record.key, self._partitions[record.topic]))
            if producer is not None and sequences is not None:
                if sequences[index] <= self._sequences.get((producer, where), -1):
                    answer.append(None)
                    continue
                self._sequences[producer, where] = sequences[index]
            log = self._records[where]
            stamp = self._clock.now().timestamp()
            log.append(
                Record(
                    record.topic,
                    where.partition,
                    len(log),
                    record.key,
                    record.event_id,
                    record.platform_run_id,
                    record.body,
                    stamp,
                )
            )
            answer.append((where.partition, len(log) - 1))
        return answer

    def read(self, positions: Mapping[TopicPartition, int], *, limit: int) -> list[Record]:
        found = [
            record
            for where in sorted(positions)
            for record in self._records.get(where, [])[max(positions[where], self._begin.get(where, 0)) :][:limit]
        ]
        check_no_gap(found, positions)
        return found

    def heads(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {where: len(records) for where, records in self._records.items() if where.topic in topics}

    def beginnings(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {where: self._begin.get(where, 0) for where in self._records if where.topic in topics}

    def trim(self, where: TopicPartition, up_to: int) -> None:
        """Forget what stands below `up_to`, never the newest record."""
        with self._lock:
            self._begin[where] = min(up_to, len(self._records[where]) - 1)
