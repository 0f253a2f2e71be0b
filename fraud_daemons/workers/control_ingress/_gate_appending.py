"""How valid events become admissions and records, in the caller's transaction.

Two COPYs, and work for the gate beside each: the admissions go out as fast as their events are judged and hashed, while the
server takes in the last of them the records are encoded, and while it writes these, the receipts are made. Positions come
first, for an admission says where its record stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import cache
from typing import NamedTuple

from fraud_daemons.bus.port import OutRecord, partition_of
from fraud_daemons.bus.postgres_log import Place, PostgresLog, encoded
from fraud_daemons.domain.admission import Candidate
from fraud_daemons.domain.envelope import MARK_KEYS
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.state import admissions
from fraud_daemons.workers.control_ingress._gate_answers import admitted_answers
from fraud_daemons.workers.control_ingress._gate_receipts import Lot, lots


class Appended(NamedTuple):
    """What became of fresh candidates, made while the server wrote them: to be said when that is committed."""

    fresh: Sequence[Candidate]
    places: Sequence[Place]
    """Of a mark the place of its own key."""
    answers: Sequence[str]
    lots: Sequence[Lot]


def append(
    connection: Connection,
    log: PostgresLog,
    parts: Iterable[Sequence[Candidate]],
    destinations: Sequence[tuple[str, str]],
    *,
    producer: str,
    at: datetime,
    copies: Sequence[Candidate] = (),
    others: Sequence[OutRecord] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> Appended:
    """Admissions and records of candidates that come in parts, in the order of their `destinations` (topic, key), then
    records of copies, which have no admission of their own, and others.

    `meanwhile` is done while the server writes the records: nothing of the candidates fails behind it. Raises Overtaken, and
    what `parts` raises; the caller rolls back.
    """
    behind = [*map(_record, copies), *others]
    places = log.reserve([*destinations, *((record.topic, record.key) for record in behind)])
    encoder = admissions.Encoder(producer=producer, at=at)
    fresh: list[Candidate] = []
    hashes: list[str] = []

    def rows() -> Iterator[bytes]:
        for part in parts:
            of_part = [candidate.payload_hash for candidate in part]
            at_places = places[len(fresh) : len(fresh) + len(part)]
            yield encoder.rows(part, of_part, at_places)
            fresh.extend(part)
            hashes.extend(of_part)

    with admissions.admitting(connection, rows()) if destinations else nullcontext():
        records = encoded([*map(_record, fresh), *behind], places)
        answers = admitted_answers(fresh, hashes, places, at=at)
    with log.writing(records):
        hashes += [copy.payload_hash for copy in copies]
        receipts = lots([*fresh, *copies], hashes, places[: len(hashes)], producer=producer, at=at)
        meanwhile()
    return Appended(fresh, places[: len(fresh)], answers, receipts)


def append_judged(
    connection: Connection,
    log: PostgresLog,
    fresh: Sequence[Candidate],
    others: Sequence[OutRecord],
    *,
    producer: str,
    at: datetime,
    meanwhile: Callable[[], None] = lambda: None,
) -> Appended:
    """The same for candidates that are all there. A mark is copied to the partitions to which its own key does not lead."""
    copies = [
        candidate._replace(key=key)
        for candidate in fresh
        if candidate.is_mark
        for key in keys_of_others(candidate.key, log.partitions_of(candidate.topic))
    ]
    destinations = [(candidate.topic, candidate.key) for candidate in fresh]
    return append(
        connection, log, [fresh], destinations,
        copies=copies, others=others, producer=producer, at=at, meanwhile=meanwhile,
    )  # fmt: skip


@cache
def keys_of_others(key: str, partitions: int) -> tuple[str, ...]:
    """One key for each partition in which `key` does not land."""
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < partitions:  # bounded: CRC-32 spreads, and there are at most 64 partitions
        other = f"{MARK_KEYS}{number}"
        keys.setdefault(partition_of(other, partitions), other)
        number += 1
    del keys[partition_of(key, partitions)]
    return tuple(keys[partition] for partition in sorted(keys))


def _record(candidate: Candidate) -> OutRecord:
    _, (run, _, event_id), topic, key, body = candidate
    return OutRecord(topic, key, event_id, run, body)
