"""The feature plane's labels (schema ofp): the ledger of what was taken in, and the truth feed's marks. Sets in, sets out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fraud_daemons.domain.fraud_windows import FlowLabel
from fraud_daemons.domain.labels import FRAUD_DISPOSITION
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.arrays import columns

_SQL: Final = "fraud_daemons.state.sql"

WorldKey = tuple[str, str]
"""(platform_run_id, scenario_run_id)"""

EntityKey = tuple[str, str]
"""(platform_run_id, entity)"""

FlowKey = tuple[str, str]
"""(platform_run_id, flow_id)"""


class LabelRow(NamedTuple):
    """A label as it came on `labels`."""

    platform_run_id: str
    label_id: str
    flow_id: str
    type: str
    value: str
    source: str
    observed: int
    supersedes: str | None


class FlowPlace(NamedTuple):
    """A flow and where it stands; without a terminal `entity` is None."""

    platform_run_id: str
    flow_id: str
    entity: str | None
    time: int
    source_seq: int


Labelled = dict[FlowPlace, list[FlowLabel]]
"""All counted labels of flows whose place is known."""

_LABELLED: Final = (
    "l.platform_run_id, l.entity, l.flow_id, l.occurred_at_microseconds, l.source_seq, l.label_id,"
    ' l."value", l.source, l.observed_microseconds, l.supersedes'
)


def take_in(connection: Connection, rows: Sequence[LabelRow]) -> set[FlowKey]:
    """Enter labels in the ledger; the flows whose known labels changed by it and whose place is known."""
    if not rows:
        return set()
    names = ("runs", "labels", "flows", "types", "values", "sources", "observed", "supersedes")
    found = connection.execute(
        load(_SQL, "feature_labels_take_in.sql"),
        {**dict(zip(names, columns(rows), strict=True)), "counted": FRAUD_DISPOSITION},
    )
    return {(run, flow_id) for run, flow_id, state in found if state == "APPLIED"}


def place(connection: Connection, flows: Sequence[FlowPlace]) -> Labelled:
    """Give labels that waited for these new flows their place; all that is known of those flows."""
    if not flows:
        return {}
    return _grouped(connection.execute(load(_SQL, "feature_labels_place.sql"), columns(flows)))


def waiting(connection: Connection, runs: Iterable[str], *, limit: int) -> set[FlowKey]:
    """Up to `limit` flows of these runs that labels wait for."""
    rows = connection.execute(
        "select platform_run_id, flow_id from ofp.labels where platform_run_id = any(%s) and state = 'WAITING' limit %s",
        (list(runs), limit),
    )
    return set(rows.fetchall())


def of_flows(connection: Connection, flows: Iterable[FlowKey]) -> Labelled:
    """All counted labels of these flows."""
    wanted = columns(list(flows))
    if not wanted:
        return {}
    return _grouped(
        connection.execute(
            f"select {_LABELLED} from unnest(%b::text[], %b::text[]) as w(platform_run_id, flow_id)"
            " join ofp.labels l using (platform_run_id, flow_id) where l.state = 'APPLIED'",
            wanted,
        )
    )


def of_entities(connection: Connection, since: Mapping[EntityKey, int]) -> Labelled:
    """The labels of these terminals' flows that occurred at or after a time of their own."""
    if not since:
        return {}
    return _grouped(
        connection.execute(
            f"select {_LABELLED} from unnest(%b::text[], %b::text[], %b::bigint[])"
            " as w(platform_run_id, entity, since) join ofp.labels l on l.platform_run_id = w.platform_run_id"
            " and l.entity = w.entity and l.occurred_at_microseconds >= w.since where l.state = 'APPLIED'",
            columns([(*entity, time) for entity, time in since.items()]),
        )
    )


def put_marks(connection: Connection, marks: Mapping[tuple[str, str, int], int]) -> None:
    """Note how far worlds are covered, per partition; never back."""
    if marks:
        connection.execute(
            "insert into ofp.label_marks as m select * from"
            " unnest(%s::text[], %s::text[], %s::integer[], %s::bigint[])"
            ' on conflict (platform_run_id, scenario_run_id, "partition") do update'
            " set covered_microseconds = greatest(m.covered_microseconds, excluded.covered_microseconds)",
            columns([(*where, covered) for where, covered in marks.items()]),
        )


def marks_of(connection: Connection, world: WorldKey) -> dict[int, int]:
    """Partition -> up to where a world's labels have come; empty without any mark."""
    rows = connection.execute(
        'select "partition", covered_microseconds from ofp.label_marks where platform_run_id = %s and scenario_run_id = %s',
        world,
    )
    return dict(rows.fetchall())


def truth_has_marks(bus: Connection, world: WorldKey) -> bool:
    """Whether the bus holds a mark of this world's truth feed: then marks will come on `labels` too."""
    row = bus.execute(
        "select exists (select 1 from bus.log where topic = 'truth' and platform_run_id = %s"
        " and record_key like 'mark-%%' and position(convert_to(%s, 'UTF8') in body) > 0)",
        world,
    ).fetchone()
    return bool(row and row[0])


def _grouped(rows: Iterable[Any]) -> Labelled:
    found: Labelled = {}
    for run, entity, flow_id, time, seq, *label in rows:
        found.setdefault(FlowPlace(run, flow_id, entity, time, seq), []).append(FlowLabel(*label))
    return found
