"""The context store's tables: parts that wait, flows that left, marks, anomalies. It stores what it is told and decides nothing.

Everything is read and written in sets; no function sends more than one statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fraud_daemons.domain.envelope import OUTPUTS, OrderKey
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.arrays import Table, columns, copy_in

_SQL: Final = "fraud_daemons.state.sql"


class World(NamedTuple):
    """One world of one run."""

    platform_run_id: str
    scenario_run_id: str


FlowKey = tuple[str, str]
"""(platform_run_id, flow_id)"""

FrameKey = tuple[str, str, str]
"""(platform_run_id, scenario_run_id, frame_key)"""

MarkKey = tuple[str, int]
"""(output, partition)"""


class Part(NamedTuple):
    """One part of a transaction: the identity of its record, and its body while its flow has not left."""

    event_id: str
    payload_hash: bytes
    partition: int
    position: int
    appended_at: float
    body: bytes | None


class Waiting(NamedTuple):
    """A traffic event that has not left."""

    scenario_run_id: str
    order: OrderKey
    live: bool
    traffic: Part


class Anchor(NamedTuple):
    """A flow's anchor and the frame it names."""

    scenario_run_id: str
    frame_key: str
    part: Part


class StoredFlow(NamedTuple):
    """What stands under a flow: the hash of the traffic that left, the traffic that waits, the anchor."""

    key: FlowKey
    bound_hash: bytes | None
    waiting: Waiting | None
    anchor: Anchor | None


class StoredFrame(NamedTuple):
    """What stands under a frame's key."""

    key: FrameKey
    taken_by: str | None
    arrival: Part | None
    entities: Part | None


_PART: Final = (
    ("event_id", "text"),
    ("payload_hash", "bytea"),
    ("partition", "integer"),
    ("position", "bigint"),
    ("appended_at", "float8"),
    ("body", "bytea"),
)
_NO_PART: Final = (None,) * len(_PART)


def _part_of_frame(name: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{name}_{column.removeprefix('payload_')}", kind) for column, kind in _PART)


PENDING: Final = Table(
    "csfb.pending",
    (
        ("platform_run_id", "text"),
        ("scenario_run_id", "text"),
        ("flow_id", "text"),
        ("occurred_at", "text"),
        ("source_seq", "bigint"),
        ("live", "boolean"),
        *_PART,
    ),
)
ANCHORS: Final = Table(
    "csfb.anchors",
    (("platform_run_id", "text"), ("flow_id", "text"), ("scenario_run_id", "text"), ("frame_key", "text"), *_PART),
)
FRAMES: Final = Table(
    "csfb.frames",
    (
        ("platform_run_id", "text"),
        ("scenario_run_id", "text"),
        ("frame_key", "text"),
        ("taken_by", "text"),
        *_part_of_frame("arrival"),
        *_part_of_frame("entities"),
    ),
)
BINDINGS: Final = Table(
    "csfb.bindings",
    (
        ("platform_run_id", "text"),
        ("flow_id", "text"),
        ("scenario_run_id", "text"),
        ("event_id", "text"),
        ("payload_hash", "bytea"),
        ("occurred_at", "text"),
        ("source_seq", "bigint"),
        ("context_status", "text"),
        ("release_rule", "text"),
        ("frame_key", "text"),
        *(
            (f"{o}_{column}", kind)
            for o in OUTPUTS
            for column, kind in (("partition", "integer"), ("position", "bigint"))
        ),
        ("bound_at", "timestamptz"),
    ),
)
ANOMALIES: Final = Table(
    "csfb.anomalies",
    (
        ("platform_run_id", "text"),
        ("scenario_run_id", "text"),
        ("output", "text"),
        ("part_key", "text"),
        ("partition", "integer"),
        ("position", "bigint"),
        ("event_id", "text"),
        ("stored_hash", "bytea"),
        ("payload_hash", "bytea"),
        ("body", "bytea"),
        ("found_at", "timestamptz"),
    ),
)


def worlds_pending(connection: Connection) -> dict[World, bool]:
    """Every world with flows that have not left -> whether they are live. Asked once after a start."""
    rows = connection.execute(
        "select platform_run_id, scenario_run_id, bool_or(live) from csfb.pending group by platform_run_id, scenario_run_id"
    )
    return {World(run, scenario): live for run, scenario, live in rows}


def marks_of(connection: Connection, worlds: Iterable[World]) -> dict[World, dict[MarkKey, OrderKey]]:
    """The marks of these worlds, by output and partition."""
    found: dict[World, dict[MarkKey, OrderKey]] = {world: {} for world in worlds}
    if not found:
        return found
    rows = connection.execute(
        'select platform_run_id, scenario_run_id, "output", "partition", up_to_occurred_at, up_to_source_seq'
        " from csfb.marks join unnest(%b::text[], %b::text[]) as w(platform_run_id, scenario_run_id)"
        " using (platform_run_id, scenario_run_id)",
        columns(list(found)),
    )
    for run, scenario, output, partition, occurred_at, source_seq in rows:
        found[World(run, scenario)][output, partition] = (occurred_at, source_seq)
    return found


def put_marks(connection: Connection, marks: Mapping[World, Mapping[MarkKey, OrderKey]]) -> None:
    """Move these marks on; one that is further already stays."""
    rows = [
        (*world, output, partition, occurred_at, source_seq)
        for world, by_partition in marks.items()
        for (output, partition), (occurred_at, source_seq) in by_partition.items()
    ]
    if rows:
        connection.execute(load(_SQL, "context_put_marks.sql"), columns(rows))


def load_flows(
    connection: Connection, touched: Iterable[FlowKey], up_to: Mapping[World, OrderKey], *, limit: int
) -> list[StoredFlow]:
    """What stands under the touched flows and under the first `limit` waiting ones of each world up to a place."""
    runs, flows = _unzip(touched, 2)
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            load(_SQL, "context_load_flows.sql"),
            {
                "touched_runs": runs,
                "touched_flows": flows,
                "runs": [world.platform_run_id for world in up_to],
                "scenarios": [world.scenario_run_id for world in up_to],
                "up_to_times": [occurred_at for occurred_at, _ in up_to.values()],
                "up_to_seqs": [source_seq for _, source_seq in up_to.values()],
                "limit": limit,
            },
        )
        return [_stored_flow(row) for row in cursor.fetchall()]


def _stored_flow(row: Sequence[Any]) -> StoredFlow:
    waiting = None if row[3] is None else Waiting(row[3], (row[4], row[5]), row[6], Part(*row[7:13]))
    anchor = None if row[13] is None else Anchor(row[13], row[14], Part(*row[15:21]))
    return StoredFlow((row[0], row[1]), row[2], waiting, anchor)


def load_frames(connection: Connection, keys: Iterable[FrameKey]) -> list[StoredFrame]:
    """The frames under these keys."""
    runs, scenarios, names = _unzip(keys, 3)
    if not runs:
        return []
    with connection.cursor(binary=True) as cursor:
        cursor.execute(load(_SQL, "context_load_frames.sql"), {"runs": runs, "scenarios": scenarios, "keys": names})
        return [
            StoredFrame((row[0], row[1], row[2]), row[3], _part_or_none(row[4:10]), _part_or_none(row[10:16]))
            for row in cursor.fetchall()
        ]


def _part_or_none(columns: Sequence[Any]) -> Part | None:
    return None if columns[0] is None else Part(*columns)


def put_pending(connection: Connection, rows: Iterable[tuple[FlowKey, Waiting]]) -> None:
    """Flows that do not leave in the batch that brought them."""
    copy_in(
        connection,
        PENDING,
        [(run, w.scenario_run_id, flow_id, *w.order, w.live, *w.traffic) for (run, flow_id), w in rows],
    )


def drop_pending(connection: Connection, flows: Iterable[FlowKey]) -> None:
    """Flows that have left."""
    runs, names = _unzip(flows, 2)
    if runs:
        connection.execute(
            "delete from csfb.pending p using unnest(%b::text[], %b::text[]) as u(platform_run_id, flow_id)"
            " where p.platform_run_id = u.platform_run_id and p.flow_id = u.flow_id",
            (runs, names),
        )


def put_anchors(connection: Connection, rows: Iterable[tuple[FlowKey, Anchor, bool]]) -> None:
    """New anchors; the third value says whether the body will still be asked for."""
    copy_in(
        connection,
        ANCHORS,
        [
            (run, flow_id, a.scenario_run_id, a.frame_key, *(a.part if keep else _without_body(a.part)))
            for (run, flow_id), a, keep in rows
        ],
    )


def clear_anchors(connection: Connection, flows: Iterable[FlowKey]) -> None:
    """Drop the bodies of anchors whose flow has left; key and hash stay."""
    runs, names = _unzip(flows, 2)
    if runs:
        connection.execute(
            "update csfb.anchors a set body = null from unnest(%b::text[], %b::text[]) as u(platform_run_id, flow_id)"
            " where a.platform_run_id = u.platform_run_id and a.flow_id = u.flow_id",
            (runs, names),
        )


def put_frames(connection: Connection, frames: Iterable[StoredFrame]) -> None:
    """Frames of which nothing was known."""
    copy_in(connection, FRAMES, [_frame_row(frame) for frame in frames])


def update_frames(connection: Connection, frames: Iterable[StoredFrame]) -> None:
    """Frames that were here already, as they are now."""
    rows = [_frame_row(frame) for frame in frames]
    if rows:
        connection.execute(load(_SQL, "context_update_frames.sql"), columns(rows))


def _frame_row(frame: StoredFrame) -> tuple[Any, ...]:
    """A frame as a row; once a flow has left with it the bodies go, keys and hashes stay."""
    key, taken_by, arrival, entities = frame
    if taken_by is None:
        return (*key, None, *(arrival or _NO_PART), *(entities or _NO_PART))
    return (*key, taken_by, *_without_body(arrival or _NO_PART), *_without_body(entities or _NO_PART))


def _without_body(part: Sequence[Any]) -> tuple[Any, ...]:
    return (*part[:-1], None)


def put_bindings(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Flows that leave now, in the columns of BINDINGS."""
    copy_in(connection, BINDINGS, rows)


def put_anomalies(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Conflicting parts, in the columns of ANOMALIES."""
    copy_in(connection, ANOMALIES, rows)


def count_repeats(connection: Connection, repeats: Mapping[tuple[str, str], int]) -> None:
    """Add to the repeats absorbed per (platform_run_id, output)."""
    if repeats:
        connection.execute(
            'insert into csfb.repeats as r (platform_run_id, "output", repeats)'
            " select * from unnest(%b::text[], %b::text[], %b::bigint[])"
            ' on conflict (platform_run_id, "output") do update set repeats = r.repeats + excluded.repeats',
            columns([(run, output, count) for (run, output), count in repeats.items()]),
        )


def _unzip(keys: Iterable[Sequence[str]], width: int) -> list[list[str]]:
    """Keys as one list per column; `width` empty lists for none."""
    rows = list(keys)
    return [[row[column] for row in rows] for column in range(width)]
