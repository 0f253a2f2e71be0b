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

RECORDS_KEPT_MAX = 40_000
"""Some 10 MB. Four topics fill an object each every 16,000 records."""

_stamp = lru_cache(maxsize=64)(iso)  # a batch shares one moment


class Lot(NamedTuple):
    """Receipts of one request in one partition, at positions one after the other."""

    where: TopicPartition
    first_position: int
    platform_run_id: str
    records: int
    text: str
    """The receipts as JSON, a comma between two."""


def lots(
    candidates: Sequence[Candidate],
    hashes: Sequence[str],
    places: Sequence[tuple[int, int]],
    *,
    producer: str,
    at: datetime,
) -> list[Lot]:
    """The receipts of one request, a candidate and its payload hash per record, each partition's positions ascending.

    None for a request that names several runs: its receipts are read from their rows.
    """
    runs = {candidate.identity.platform_run_id for candidate in candidates}
    if len(runs) != 1:
        return []
    texts: dict[tuple[str, int], tuple[int, list[str]]] = {}
    stamp, quoted = _stamp(at), _quoted(producer)
    for (_, (_, event_type, event_id), topic, _, _), digest, (partition, position) in zip(
        candidates, hashes, places, strict=True
    ):
        where = topic, partition
        if where not in texts:
            texts[where] = position, []
        texts[where][1].append(_receipt(topic, partition, position, event_type, event_id, digest, quoted, stamp))
    run = runs.pop()
    return [
        Lot(TopicPartition(*where), first, run, len(receipts), ",".join(receipts))
        for where, (first, receipts) in texts.items()
    ]


class FreshReceipts:
    """By partition and first position; written by request threads, taken by the sealer."""

    def __init__(self, *, records_max: int = RECORDS_KEPT_MAX) -> None:
        self._records_max = records_max
        self._lock = threading.Lock()
        self._lots: dict[TopicPartition, dict[int, Lot]] = defaultdict(dict)
        self._records = 0

    def keep(self, committed: Sequence[Lot]) -> None:
        """Keep the lots of a committed request; those that find no room are not kept."""
        with self._lock:
            for lot in committed:
                if self._records + lot.records <= self._records_max:
                    self._lots[lot.where][lot.first_position] = lot
                    self._records += lot.records

    def entries(self, connection: Connection, where: TopicPartition, position: int, limit: int) -> list[Entry]:
        """What the sealer asks for: receipts in order, those of a request together or from the rows one by one.

        At hand they are given once: who needs them again, after a fault, reads the rows.
        """
        taken, missing = self._take(where, position, limit)
        if taken:
            return [
                Entry(lot.first_position, lot.platform_run_id, orjson.Fragment(lot.text), lot.records) for lot in taken
            ]
        return _committed(connection, where, position, missing)

    def _take(self, where: TopicPartition, position: int, limit: int) -> tuple[list[Lot], int]:
        """Whole lots from a position on, of up to `limit` records; and without any, how many records to read instead:
        up to where the next lot begins, so that it can be used."""
        with self._lock:
            lots = self._lots[where]
            for passed in [first for first in lots if first < position]:
                self._records -= lots.pop(passed).records
            taken: list[Lot] = []
            at, left = position, limit
            while at in lots and left >= lots[at].records:
                taken.append(lot := lots.pop(at))
                at, left = at + lot.records, left - lot.records
            self._records -= limit - left
            following = min((first for first in lots if first > position), default=position + limit)
        return taken, min(limit, following - position)


def _committed(connection: Connection, where: TopicPartition, position: int, limit: int) -> list[Entry]:
    """Found by id beside the records, whose bodies are not read; a mark has one receipt per partition it went to."""
    entries = []
    for at, run, event_id, found in admissions.receipts_from(
        connection, where.topic, where.partition, position=position, limit=limit
    ):
        if found is None:
            raise without_row(f"{where.topic}/{where.partition}/{at}", "ig.admissions")
        event_type, payload_hash, producer, admitted_at = found
        receipt = _receipt(*where, at, event_type, event_id, payload_hash, _quoted(producer), _stamp(admitted_at))
        entries.append(Entry(at, run, orjson.Fragment(receipt)))
    return entries


def _receipt(
    topic: str, partition: int, position: int, event_type: str, event_id: str, digest: str, quoted: str, stamp: str
) -> str:
    """The receipt as canonical JSON, put together by hand: of an admitted event only the sender's name may need escapes."""
    return (
        f'{{"admitted_at":"{stamp}","event_id":"{event_id}","event_type":"{event_type}","partition":{partition},'
        f'"payload_hash":"{digest}","position":{position},"producer":{quoted},"topic":"{topic}"}}'
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
