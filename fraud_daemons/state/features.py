"""The feature plane's tables: events per entity, the snapshot index, counts per run. Sets in, sets out; no decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from fraud_daemons.domain.features import Row
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.arrays import Table, columns, copy_in

_SQL: Final = "fraud_daemons.state.sql"

EntityKey = tuple[str, str]
"""(platform_run_id, entity)"""

FlowKey = tuple[str, str]
"""(platform_run_id, flow_id)"""


class EntityEvent(NamedTuple):
    """One transaction as seen by one of its entities; times in microseconds since 1970."""

    platform_run_id: str
    entity: str
    time: int
    source_seq: int
    flow_key: int
    amount_minor: int
    counterpart: int | None
    """`flow_key` of who was on the other side"""


class Snapshot(NamedTuple):
    """A row of the snapshot index."""

    platform_run_id: str
    flow_id: str
    snapshot_hash: str
    feature_revision: str
    payload_hash: bytes
    bound_partition: int
    bound_position: int
    entity: str | None
    """the flow's terminal, where its labels belong"""
    time: int
    source_seq: int


class Counts(NamedTuple):
    """What a step adds to a run."""

    newest: int
    repeats: int
    late: int
    too_late: int


_EVENT_COLUMNS: Final = (
    ("platform_run_id", "text"),
    ("entity", "text"),
    ("occurred_at_microseconds", "bigint"),
    ("source_seq", "bigint"),
    ("flow_key", "bigint"),
    ("amount_minor", "bigint"),
    ("counterpart", "bigint"),
)
_EVENTS: Final = Table("ofp.entity_events", _EVENT_COLUMNS)
_WARMING: Final = Table("ofp_warming", _EVENT_COLUMNS)
_SNAPSHOTS: Final = Table(
    "ofp.snapshots",
    (
        ("platform_run_id", "text"),
        ("flow_id", "text"),
        ("snapshot_hash", "text"),
        ("feature_revision", "text"),
        ("payload_hash", "bytea"),
        ("bound_partition", "integer"),
        ("bound_position", "bigint"),
        ("entity", "text"),
        ("occurred_at_microseconds", "bigint"),
        ("source_seq", "bigint"),
    ),
)
_ANOMALIES: Final = Table(
    "ofp.anomalies",
    (
        ("platform_run_id", "text"),
        ("partition", "integer"),
        ("position", "bigint"),
        ("flow_id", "text"),
        ("stored_hash", "bytea"),
        ("payload_hash", "bytea"),
        ("body", "bytea"),
        ("found_at", "timestamptz"),
    ),
)


def flow_key(flow_id: str) -> int:
    """64 bits derived from a flow's id or an entity's name: enough to tell apart the few flows that share an entity, an
    instant and a place, and the others that an entity meets within its windows."""
    return int.from_bytes(hashlib.sha256(flow_id.encode()).digest()[:8], "big", signed=True)


WARM_ROWS_MAX: Final = 50_000
"""Rows in one statement while warming: about a second, far below the statement timeout even on a busy machine."""


def warm(connection: Connection, run: str, rows: Iterable[tuple[str, str | None, str | None, int, int, int]]) -> int:
    """Give a run the history that lies before its stream; returns the number of entity events that were new.

    A run is one execution: it begins with empty windows, and a 30-day count would be right only after 37 days of
    stream. Where the past is known - an archive, a file, the run before - it enters here, behind the gate, because it
    is neither to be decided again nor to be counted as admitted. Row = (flow_id, card token, terminal as
    `domain.features.terminal_key` names it, microseconds, source_seq, amount_minor); have the rows at hand, the
    transaction is open meanwhile. Rows go in sorted by entity, so that windows lie together; what is there already is
    left alone, so warming twice is warming once. Labels find these flows as they find those of the stream. The plane must not be running on this run: it may hold windows in
    memory that know nothing of these rows.
    """
    connection.execute("create temp table ofp_warming (like ofp.entity_events) on commit drop")
    new = 0
    rows = list(rows)
    for start in range(0, len(rows), WARM_ROWS_MAX):
        _warm_places(connection, run, rows[start : start + WARM_ROWS_MAX])
    events = (event for row in rows for event in _events(run, *row))
    while chunk := list(islice(events, WARM_ROWS_MAX)):
        copy_in(connection, _WARMING, chunk)
        new += connection.execute(
            "insert into ofp.entity_events select * from ofp_warming"
            " order by platform_run_id, entity, occurred_at_microseconds, source_seq on conflict do nothing"
        ).rowcount
        connection.execute("truncate ofp_warming")
    return new


def _events(
    run: str, flow_id: str, card: str | None, terminal: str | None, time: int, seq: int, amount: int
) -> list[EntityEvent]:
    sides = [(entity, flow_key(entity)) for entity in (card_entity(card), terminal) if entity]
    return entity_events(run, flow_key(flow_id), sides, time, seq, amount)


def entity_events(
    run: str, key: int, sides: Sequence[tuple[str, int]], time: int, seq: int, amount: int
) -> list[EntityEvent]:
    """A flow as its card and its terminal see it, or the one it has; each with its `flow_key`, which is part of the other."""
    others = [other for _, other in reversed(sides)] if len(sides) == 2 else [None]
    return [
        EntityEvent(run, entity, time, seq, key, amount, other)
        for (entity, _), other in zip(sides, others, strict=False)
    ]


def _warm_places(
    connection: Connection, run: str, rows: Sequence[tuple[str, str | None, str | None, int, int, int]]
) -> None:
    places = [(run, flow_id, terminal, time, seq) for flow_id, _, terminal, time, seq, _ in rows if terminal]
    if places:
        connection.execute(
            "insert into ofp.warmed_flows select * from unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[])"
            " on conflict do nothing",
            columns(places),
        )


def card_entity(card_token: str | None) -> str | None:
    """A card as an entity."""
    return f"c:{card_token}" if card_token else None


def load_windows(connection: Connection, entities: Sequence[EntityKey]) -> dict[EntityKey, list[Row]]:
    """The rows of these entities in order; an entity without any is left out."""
    if not entities:
        return {}
    runs, names = columns(entities)
    with connection.cursor(binary=True) as cursor:
        cursor.execute(load(_SQL, "features_load.sql"), {"runs": runs, "entities": names})
        return {
            (run, entity): list(zip(times, seqs, amounts, counterparts, strict=True))
            for run, entity, times, seqs, amounts, counterparts in cursor.fetchall()
        }


def present(connection: Connection, events: Sequence[EntityEvent]) -> set[EntityEvent]:
    """Which of these events stand in the table; asked only for those whose place in a window is taken."""
    if not events:
        return set()
    rows = connection.execute(
        "select e.platform_run_id, e.entity, e.occurred_at_microseconds, e.source_seq, e.flow_key, w.amount_minor,"
        " w.counterpart from unnest(%b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],"
        " %b::bigint[]) as w(platform_run_id, entity, occurred_at_microseconds, source_seq, flow_key, amount_minor,"
        " counterpart)"
        " join ofp.entity_events e using (platform_run_id, entity, occurred_at_microseconds, source_seq, flow_key)",
        columns(events),
    )
    return {EntityEvent(*row) for row in rows}


def put_events(connection: Connection, events: Sequence[EntityEvent]) -> None:
    """New rows of entities."""
    copy_in(connection, _EVENTS, events)


def prune(connection: Connection, horizons: Mapping[EntityKey, int]) -> None:
    """Drop rows of these entities at or before their horizon, in event time."""
    if horizons:
        connection.execute(
            "delete from ofp.entity_events e using unnest(%b::text[], %b::text[], %b::bigint[])"
            " as u(platform_run_id, entity, horizon) where e.platform_run_id = u.platform_run_id and e.entity = u.entity"
            " and e.occurred_at_microseconds <= u.horizon",
            columns([(*entity, horizon) for entity, horizon in horizons.items()]),
        )


EXPIRED_ROWS_MAX: Final = 10_000
"""Rows that go in one look at idle entities: far below the statement timeout, whatever an entity holds."""


def expire(connection: Connection, run: str, *, after: str, looks: int, horizon: int) -> tuple[str, list[str]]:
    """Look at the next entities behind `after`; rows of those not seen since `horizon` go.

    Returns where to look next ("" = from the beginning again), and the entities that were idle.
    """
    row = connection.execute(
        load(_SQL, "features_expire.sql"),
        {"run": run, "after": after, "looks": looks, "horizon": horizon, "rows": EXPIRED_ROWS_MAX},
    ).fetchone()
    last, looked, idle = row or (None, 0, [])
    return (last if last is not None and looked == looks else ""), idle


def known_flows(connection: Connection, flows: Sequence[FlowKey]) -> dict[FlowKey, bytes]:
    """Which of these flows were given a vector, with the hash of the record it was given for."""
    if not flows:
        return {}
    rows = connection.cursor(binary=True).execute(
        "select w.platform_run_id, w.flow_id, s.payload_hash from unnest(%b::text[], %b::text[])"
        " as w(platform_run_id, flow_id) cross join lateral (select payload_hash from ofp.snapshots"
        " where platform_run_id = w.platform_run_id and flow_id = w.flow_id limit 1) s",
        columns(flows),
    )
    return {(run, flow_id): digest for run, flow_id, digest in rows}


def put_snapshots(connection: Connection, snapshots: Sequence[Snapshot]) -> None:
    """Enter vectors in the index."""
    copy_in(connection, _SNAPSHOTS, snapshots)


def put_anomalies(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Conflicting records: run, partition, position, flow, stored hash, hash, body, time."""
    copy_in(connection, _ANOMALIES, rows)


def newest(connection: Connection, runs: Sequence[str]) -> dict[str, int]:
    """Newest event time of each run that has any, in microseconds."""
    rows = connection.execute(
        "select platform_run_id, newest_microseconds from ofp.runs where platform_run_id = any(%b)", (list(runs),)
    )
    return dict(rows.fetchall())


def add_counts(connection: Connection, counts: Mapping[str, Counts]) -> None:
    """Move runs on."""
    if counts:
        connection.execute(load(_SQL, "features_progress.sql"), columns([(run, *c) for run, c in counts.items()]))
