"""What the gate admitted, refused and saw again. The committed row is the receipt.

Locks are taken in one order everywhere - quarantine, repeats, heads of the log, admissions - and in key order within
each but the last, so two requests never wait for each other in a circle: two that bring the same event go to the same
topic, and the second has waited at its head before it comes to the admissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from psycopg.errors import UniqueViolation

from fraud_daemons.domain.admission import Candidate, Identity, Refusal
from fraud_daemons.postgres_runtime.binary_rows import beginning, int4, int8, text, timestamptz
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.copying import copying
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"
OF_RUN: Final = "hashtextextended(platform_run_id, 0) = hashtextextended(%(run)s, 0) and platform_run_id = %(run)s"
"""What is true of the admissions of run `%(run)s`, by the beginning of their key."""


class Receipt(NamedTuple):
    """Where an admitted event stands, by whom it came, and since when."""

    payload_hash: str
    producer: str
    topic: str
    partition: int
    position: int
    admitted_at: datetime


@dataclass(frozen=True)
class Quarantined:
    """One refused event as it is kept."""

    platform_run_id: str
    quarantine_id: str
    event_id: str
    event_type: str
    reason: str
    detail: str
    producer: str
    payload_sha256: str
    body: bytes
    quarantined_at: datetime


def receipts(connection: Connection, identities: Sequence[Identity]) -> dict[Identity, Receipt]:
    """The receipts of those of the identities that were admitted."""
    if not identities:
        return {}
    rows = connection.execute(
        load(_SQL, "admissions_select.sql"),
        {
            "runs": [identity.platform_run_id for identity in identities],
            "types": [identity.event_type for identity in identities],
            "ids": [identity.event_id for identity in identities],
        },
    )
    return {Identity(run, kind, event_id): Receipt(*rest) for run, kind, event_id, *rest in rows}


ReceiptRow = tuple[str, str, str, datetime]
"""(event type, payload hash, producer, admitted at) of an admission."""


def receipts_from(
    connection: Connection, topic: str, partition: int, *, position: int, limit: int
) -> list[tuple[int, str, str, ReceiptRow | None]]:
    """(position, run, event id, receipt) of up to `limit` records of a partition; None where a record has no receipt."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            load(_SQL, "admissions_of_records.sql"),
            {"topic": topic, "partition": partition, "position": position, "limit": limit},
        )
        return [
            (at, run, event_id, (kind, *receipt) if kind is not None else None)
            for at, run, event_id, kind, *receipt in cursor
        ]


class Overtaken(Exception):
    """Another request admitted one of the events between our look and our insert: the transaction must roll back."""


class Encoder:
    """The admissions of one request as `admitting` takes them."""

    def __init__(self, *, producer: str, at: datetime) -> None:
        self._same = text(producer) + timestamptz(at)
        self._beginnings: dict[tuple[str, str, str, int], bytes] = {}

    def rows(self, candidates: Sequence[Candidate], hashes: Sequence[str], places: Sequence[tuple[int, int]]) -> bytes:
        """Of events that are appended at `places`."""
        beginnings = self._beginnings
        parts: list[bytes] = []
        for (_, (run, event_type, event_id), topic, _, _), payload_hash, (partition, position) in zip(
            candidates, hashes, places, strict=True
        ):
            what = run, event_type, topic, partition
            begins = beginnings.get(what)
            if begins is None:
                begins = beginning(9, text(run), text(event_type), text(topic), int4(partition), self._same)
                beginnings[what] = begins
            parts += begins, int8(position), text(event_id), text(payload_hash)
        return b"".join(parts)


@contextmanager
def admitting(connection: Connection, parts: Iterable[bytes]) -> Iterator[None]:
    """Write admissions that were not there when we looked, encoded in parts: the server takes in each while the next is made,
    and the last while the block runs. Raises Overtaken."""
    try:
        with copying(connection, _COPY, parts):
            yield
    except UniqueViolation as error:
        raise Overtaken from error


_COPY = (
    b'copy ig.admissions (platform_run_id, event_type, topic, "partition", producer, admitted_at, "position", event_id,'
    b" payload_hash) from stdin (format binary) where clock_timestamp() is not null"
)
"""The condition is always true. As it may change from row to row, the server inserts each row when it comes; without one it
keeps up to 1,000, which is a whole batch, and begins when the sender is through."""


def quarantine(connection: Connection, refusals: Sequence[Refusal], *, producer: str, at: datetime) -> set[str]:
    """Keep refused events; the quarantine ids that are new. The same refusal again raises its `seen`."""
    if not refusals:
        return set()
    times: dict[tuple[str, str], int] = {}
    kept: dict[tuple[str, str], Refusal] = {}
    for refusal in refusals:
        key = (refusal.identity.platform_run_id, refusal.quarantine_id)
        kept[key] = refusal
        times[key] = times.get(key, 0) + 1
    keys = sorted(kept)
    rows = connection.execute(
        load(_SQL, "admissions_quarantine.sql"),
        {
            "runs": [run for run, _ in keys],
            "quarantine_ids": [quarantine_id for _, quarantine_id in keys],
            "ids": [kept[key].identity.event_id for key in keys],
            "types": [kept[key].identity.event_type for key in keys],
            "reasons": [str(kept[key].reason) for key in keys],
            "details": [kept[key].detail for key in keys],
            "hashes": [kept[key].payload_sha256 for key in keys],
            "bodies": [kept[key].body for key in keys],
            "seen": [times[key] for key in keys],
            "producer": producer,
            "at": at,
        },
    )
    return {quarantine_id for quarantine_id, is_new in rows if is_new}


def count_repeats(connection: Connection, repeats: Mapping[tuple[str, str], int], *, producer: str) -> None:
    """Add repeats by (run, event type)."""
    if not repeats:
        return
    keys = sorted(repeats)
    connection.execute(
        "insert into ig.repeats (platform_run_id, producer, event_type, repeats)"
        " select run, %s, type, n from unnest(%s::text[], %s::text[], %s::bigint[]) as r(run, type, n)"
        " order by run, type"
        " on conflict (platform_run_id, producer, event_type) do update set repeats = repeats.repeats + excluded.repeats",
        (producer, [run for run, _ in keys], [kind for _, kind in keys], [repeats[key] for key in keys]),
    )


def quarantined(connection: Connection, platform_run_id: str, quarantine_ids: Sequence[str]) -> dict[str, Quarantined]:
    """Refused events of one run by quarantine id. `seen` is left out: it grows, and evidence must not."""
    rows = connection.execute(
        "select platform_run_id, quarantine_id, event_id, event_type, reason, detail, producer, payload_sha256, body,"
        " quarantined_at from ig.quarantine where platform_run_id = %s and quarantine_id = any(%s)",
        (platform_run_id, list(quarantine_ids)),
    )
    return {row[1]: Quarantined(*row) for row in rows}


def unsealed_records(connection: Connection, *, sealers: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Records behind which the sealers (checkpoint name, topics) still stand, and those intended but not written."""
    workers = [name for name, topics in sealers for _ in topics]
    topics = [topic for _, topics in sealers for topic in topics]
    row = connection.execute(load(_SQL, "admissions_unsealed.sql"), {"workers": workers, "topics": topics}).fetchone()
    return int(row[0]) if row else 0
