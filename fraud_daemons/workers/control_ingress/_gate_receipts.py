"""Receipts on their way from admission to evidence: what this process has committed and not sealed yet is kept at hand.

The committed row is the receipt, and the sealer may read it at any time; to read what was written a second before is half
of what an admission costs the server. So a request's receipts are kept from its COMMIT until they are sealed, a bounded
number of them. Where they are missing - after a restart, a lost answer to COMMIT, a redrive, a store that was away - the
rows are read, and the same receipts give the same bytes.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import orjson

from fraud_daemons.bus.port import TopicPartition
from fraud_daemons.clock import iso
from fraud_daemons.domain.admission import Candidate
from fraud_daemons.errors import FatalFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.sealing import Entry
from fraud_daemons.state import admissions

RECORDS_KEPT_MAX = 20_000
"""Some 6 MB. Four topics fill an object every 8,000 records."""

_stamp = lru_cache(maxsize=64)(iso)  # a batch shares one moment


class Row(NamedTuple):
    """What a receipt says beside its place and its request."""

    platform_run_id: str
    event_type: str
    event_id: str
    payload_hash: str


class _Lot(NamedTuple):
    """Receipts of one request in one partition, at positions one after the other."""

    rows: list[Row]
    producer: str
    admitted_at: datetime


class FreshReceipts:
    """By partition and first position; written by request threads, taken by the sealer."""

    def __init__(self, *, records_max: int = RECORDS_KEPT_MAX) -> None:
        self._records_max = records_max
        self._lock = threading.Lock()
        self._lots: dict[TopicPartition, dict[int, _Lot]] = defaultdict(dict)
        self._records = 0

    def keep(
        self, candidates: Sequence[Candidate], places: Sequence[tuple[int, int]], *, producer: str, at: datetime
    ) -> None:
        """Receipts of one committed request, a candidate per record, each partition's positions ascending."""
        lots: dict[tuple[str, int], tuple[int, list[Row]]] = {}
        for (_, (run, event_type, event_id), topic, _, _, digest), (partition, position) in zip(
            candidates, places, strict=True
        ):
            where = topic, partition
            if where not in lots:
                lots[where] = position, []
            lots[where][1].append(Row(run, event_type, event_id, digest))
        with self._lock:
            if self._records + len(places) > self._records_max:
                self._lots.clear()
                self._records = 0
            for where, (first, rows) in lots.items():
                self._lots[TopicPartition(*where)][first] = _Lot(rows, producer, at)
            self._records += len(places)

    def entries(self, connection: Connection, where: TopicPartition, position: int, limit: int) -> list[Entry]:
        """What the sealer asks for: one receipt per record in order, at hand or from the rows.

        At hand they are given once: who needs them again, after a fault, reads the rows.
        """
        taken, missing = self._take(where, position, limit)
        if taken:
            return [entry for first, lot in taken for entry in _entries(where, first, lot)]
        return _committed(connection, where, position, missing)

    def _take(self, where: TopicPartition, position: int, limit: int) -> tuple[list[tuple[int, _Lot]], int]:
        """Whole lots from a position on, of up to `limit` records; and without any, how many records to read instead:
        up to where the next lot begins, so that it can be used."""
        with self._lock:
            lots = self._lots[where]
            for passed in [first for first in lots if first < position]:
                self._records -= len(lots.pop(passed).rows)
            taken: list[tuple[int, _Lot]] = []
            at, left = position, limit
            while at in lots and left >= len(lots[at].rows):
                lot = lots.pop(at)
                taken.append((at, lot))
                at, left = at + len(lot.rows), left - len(lot.rows)
            self._records -= limit - left
            following = min((first for first in lots if first > position), default=position + limit)
        return taken, min(limit, following - position)


def _entries(where: TopicPartition, first: int, lot: _Lot) -> list[Entry]:
    stamp = _stamp(lot.admitted_at)
    return [
        Entry(at, row.platform_run_id, _receipt(where, at, row, lot.producer, stamp))
        for at, row in enumerate(lot.rows, first)
    ]


def _committed(connection: Connection, where: TopicPartition, position: int, limit: int) -> list[Entry]:
    """Found by id beside the records, whose bodies are not read; a mark has one receipt per partition it went to."""
    entries = []
    for at, run, event_id, found in admissions.receipts_from(
        connection, where.topic, where.partition, position=position, limit=limit
    ):
        if found is None:
            raise without_row(f"{where.topic}/{where.partition}/{at}", "ig.admissions")
        event_type, payload_hash, producer, admitted_at = found
        row = Row(run, event_type, event_id, payload_hash)
        entries.append(Entry(at, run, _receipt(where, at, row, producer, _stamp(admitted_at))))
    return entries


def _receipt(where: TopicPartition, position: int, row: Row, producer: str, stamp: str) -> orjson.Fragment:
    """The receipt as canonical JSON, put together by hand: of an admitted event only the sender's name may need escapes."""
    return orjson.Fragment(
        f'{{"admitted_at":"{stamp}","event_id":"{row.event_id}","event_type":"{row.event_type}",'
        f'"partition":{where.partition},"payload_hash":"{row.payload_hash}","position":{position},'
        f'"producer":{_quoted(producer)},"topic":"{where.topic}"}}'
    )


@lru_cache(maxsize=64)
def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def without_row(where: str, table: str) -> FatalFault:
    """A record of the bus without the row it was committed with."""
    return FatalFault(
        f"{where} has no row in {table} though both commit together; somebody else wrote to the topic or the table",
        reason=f"evidence: {where} without a row in {table}",
    )
