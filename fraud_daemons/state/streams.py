"""How far each stream is: wsp.streams, the cursors and the producer's journal. Every move is a compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.errors import AnotherCopyError
from fraud_daemons.postgres_runtime.connector import Connection

FEEDS = (*OUTPUTS, TRUTH)


@dataclass
class Tally:
    """What was sent of one output, and how it was answered."""

    sent: int = 0
    admitted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    stop_reason: str | None = None


@dataclass
class Stream:
    """One stream as it stands in the table. Indexes count rows of the world from 0."""

    platform_run_id: str
    stream_id: str
    world: str
    request: Mapping[str, Any]
    state: str
    reason: str | None
    first_index: int | None
    next_index: int | None
    round_end: int | None
    truth_next: int | None
    outputs: dict[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True)
class JournalEntry:
    """What was sent of one output in one round, and the answers."""

    output: str
    first_index: int
    event_ids: Sequence[str]
    statuses: Sequence[str]
    mark_id: str | None
    mark_status: str | None


_COLUMNS = (
    "platform_run_id, stream_id, world, request, state, reason, first_index, next_index, round_end, truth_next, outputs"
)


def accept(connection: Connection, requests: Sequence[Mapping[str, Any]], *, at: datetime) -> None:
    """Take requests on; one that is known already is left as it is."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into wsp.streams (platform_run_id, stream_id, ordinal, world, request, accepted_at)"
            " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
            [
                (r["platform_run_id"], r["stream_id"], r.get("ordinal", 0), r["world"], Jsonb(dict(r)), at)
                for r in requests
            ],
        )


def requests(connection: Connection, stream_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The requests that stand under these ids."""
    rows = connection.execute(
        "select stream_id, request from wsp.streams where stream_id = any(%s)", (list(stream_ids),)
    )
    return {row[0]: row[1] for row in rows}


def oldest_open(connection: Connection) -> Stream | None:
    """The stream to work on: one that runs, else the first that waits."""
    row = connection.execute(
        f"select {_COLUMNS} from wsp.streams where state in ('WAITING', 'RUNNING')"
        " order by state = 'WAITING', accepted_at, ordinal limit 1"
    ).fetchone()
    return _stream(row) if row else None


def find(connection: Connection, stream_id: str) -> Stream | None:
    """The stream of that id."""
    row = connection.execute(f"select {_COLUMNS} from wsp.streams where stream_id = %s", (stream_id,)).fetchone()
    return _stream(row) if row else None


def cursors(connection: Connection, *, platform_run_id: str, world: str) -> dict[str, int]:
    """Next index per output, truth included; 0 for one that was never sent."""
    rows = connection.execute(
        "select output, next_index from wsp.wsp_checkpoint where platform_run_id = %s and world = %s",
        (platform_run_id, world),
    )
    return dict.fromkeys(FEEDS, 0) | dict(rows.fetchall())


def begin(connection: Connection, stream: Stream, *, first_index: int, truth_next: int, at: datetime) -> None:
    """From WAITING to RUNNING, at a fixed place."""
    done = connection.execute(
        "update wsp.streams set state = 'RUNNING', reason = null, first_index = %s, next_index = %s, truth_next = %s,"
        " outputs = %s, started_at = %s where platform_run_id = %s and stream_id = %s and state = 'WAITING'",
        (
            first_index,
            first_index,
            truth_next,
            Jsonb({feed: vars(Tally()) for feed in FEEDS}),
            at,
            stream.platform_run_id,
            stream.stream_id,
        ),
    )
    _moved(done.rowcount, stream)


def intend_round(connection: Connection, stream: Stream, *, round_end: int) -> None:
    """Fix where the next round ends, before anything of it is sent."""
    done = connection.execute(
        "update wsp.streams set round_end = %s where platform_run_id = %s and stream_id = %s and state = 'RUNNING'"
        " and next_index = %s and round_end is null",
        (round_end, stream.platform_run_id, stream.stream_id, stream.next_index),
    )
    _moved(done.rowcount, stream)


def end_round(
    connection: Connection,
    stream: Stream,
    *,
    truth_next: int,
    outputs: Mapping[str, Tally],
    journal: Sequence[JournalEntry],
    done: bool,
    at: datetime,
) -> None:
    """The round was answered whole: journal, totals, place and cursors move together."""
    end = stream.round_end if stream.round_end is not None else stream.next_index
    moved = connection.execute(
        "update wsp.streams set next_index = %s, round_end = null, truth_next = %s, outputs = %s, state = %s, ended_at = %s"
        " where platform_run_id = %s and stream_id = %s and state = 'RUNNING' and next_index = %s"
        " and round_end is not distinct from %s",
        (
            end,
            truth_next,
            Jsonb({feed: vars(tally) for feed, tally in outputs.items()}),
            "DONE" if done else "RUNNING",
            at if done else None,
            stream.platform_run_id,
            stream.stream_id,
            stream.next_index,
            stream.round_end,
        ),
    )
    _moved(moved.rowcount, stream)
    _write_journal(connection, stream, journal, at=at)
    targets = dict.fromkeys(OUTPUTS, end) | {TRUTH: truth_next}
    connection.execute(
        "insert into wsp.wsp_checkpoint (platform_run_id, world, output, next_index)"
        " select %s, %s, output, next_index from unnest(%s::text[], %s::bigint[]) as c(output, next_index)"
        " on conflict (platform_run_id, world, output) do update"
        " set next_index = greatest(wsp_checkpoint.next_index, excluded.next_index)",
        (stream.platform_run_id, stream.world, list(targets), list(targets.values())),
    )


def fail(connection: Connection, stream: Stream, *, reason: str, at: datetime) -> None:
    """The stream can never be sent: say why, and let the next one have its turn."""
    done = connection.execute(
        "update wsp.streams set state = 'FAILED', reason = %s, ended_at = %s"
        " where platform_run_id = %s and stream_id = %s and state in ('WAITING', 'RUNNING')",
        (reason, at, stream.platform_run_id, stream.stream_id),
    )
    _moved(done.rowcount, stream)


def _write_journal(connection: Connection, stream: Stream, journal: Sequence[JournalEntry], *, at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into wsp.journal (platform_run_id, stream_id, round_start, part, output, first_index, event_ids,"
            " statuses, mark_id, mark_status, answered_at)"
            " values (%s, %s, %s, %s, %s, %s, %b::text[], %b::text[], %s, %s, %s)",
            [
                (
                    stream.platform_run_id,
                    stream.stream_id,
                    stream.next_index,
                    part,
                    entry.output,
                    entry.first_index,
                    list(entry.event_ids),
                    list(entry.statuses),
                    entry.mark_id,
                    entry.mark_status,
                    at,
                )
                for part, entry in enumerate(journal)
            ],
        )


def _stream(row: Sequence[Any]) -> Stream:
    stream = Stream(*row)
    stream.outputs = {feed: Tally(**tally) for feed, tally in row[-1].items()}
    return stream


def _moved(rows: int, stream: Stream) -> None:
    if rows != 1:
        raise AnotherCopyError(
            f"stream {stream.stream_id} was moved on by another copy of the producer; this one stops",
            reason="another copy of world_stream_producer took over",
        )
