"""One transaction's worth of work: state, outgoing records, dead letters and checkpoint commit together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson

from fraud_daemons.bus.dead_letters import bury
from fraud_daemons.bus.port import OutRecord, Record, TopicPartition
from fraud_daemons.clock import iso
from fraud_daemons.postgres_runtime.connector import Connection


class UnitOfWork:
    """What a handler may do: use `connection`, publish, set a record aside, step over records it need not read."""

    def __init__(
        self,
        connection: Connection,
        *,
        worker: str,
        now: datetime,
        positions: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        self.connection = connection
        self.worker = worker
        self.now = now
        self.positions = positions or {}
        """Where the worker's subscriptions stood when this unit began."""
        self.outgoing: list[OutRecord] = []
        self.skips: dict[tuple[str, int], int] = {}
        self.held: dict[tuple[str, int], int] = {}
        self.dead_letters = 0
        self.letter_reason = ""
        """Of the last one."""
        self.more_waiting = False
        """Set by a handler whose own store holds more to do without any new record (it must have `wants_idle`): the next
        step follows at once."""

    @cached_property
    def now_text(self) -> str:
        """`now` as records tell it."""
        return iso(self.now)

    def publish(
        self, topic: str, *, key: str, event_id: str, platform_run_id: str, body: Mapping[str, Any] | bytes
    ) -> None:
        """Append to `topic` when this unit commits; in the order of the calls within a partition."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        self.outgoing.append(OutRecord(topic, key, event_id, platform_run_id, raw))

    def dead_letter(self, record: Record, *, reason: str, detail: str) -> None:
        """Set `record` aside: it breaks its contract. It counts as handled."""
        bury(self.connection, worker=self.worker, record=record, reason=reason, detail=detail, at=self.now)
        self.dead_letters += 1
        self.letter_reason = reason

    def skip_to(self, topic: str, partition: int, position: int) -> None:
        """Move another of the worker's subscriptions on to `position`, if it is not there yet."""
        self.skips[topic, partition] = max(position, self.skips.get((topic, partition), 0))

    def hold(self, record: Record) -> None:
        """Leave `record` and those behind it in its partition for a later step: they wait for a record on another
        partition. The checkpoint stops before it, and nothing of it may be written or published now."""
        where = (record.topic, record.partition)
        self.held[where] = min(record.position, self.held.get(where, record.position))

    def holds(self, record: Record) -> bool:
        """Whether `record` stays for a later step."""
        position = self.held.get((record.topic, record.partition))
        return position is not None and record.position >= position
