"""Reads one flow's traces out of every component's tables, for `platform trace`. It reads only, and by keys.

One place knows all these tables so that no component has to: whoever changes a table named here changes it here too.
Rows come as dicts of plain JSON values (times as ISO text), None where a stage has no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

import orjson
from psycopg.rows import dict_row

from fraud_daemons.clock import iso
from fraud_daemons.config.dsns import EVENT_BUS_DSN
from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.every_server import every_server

_SQL = "fraud_daemons.state.sql"
Row = dict[str, Any]

_FLOW_OF: Final = (
    ("CSFB_PROJECTION_DSN", "traces_flow_of_csfb.sql"),
    ("DF_REPLAY_DSN", "traces_flow_of_df.sql"),
    ("AL_LEDGER_DSN", "traces_flow_of_al.sql"),
    ("CASE_TRIGGER_REPLAY_DSN", "traces_flow_of_case_trigger.sql"),
    ("LABEL_STORE_LOCATOR", "traces_flow_of_label_store.sql"),
)
"""Who may know the flow behind an id, in the order of asking."""

_NOT_PLACED: Final = dict.fromkeys(("case_id", "entry", "case_status", "disposition", "opened_at"))


def flow_of(at: ConnectionOf, run: str, identity: str) -> str | None:
    """The flow that `identity` (flow, decision, intent, trigger, label or truth event) belongs to, as far as tables know."""
    for name, statement in _FLOW_OF:
        row = _one(at(name), load(_SQL, statement), {"run": run, "id": identity})
        if row is not None:
            return str(row["flow_id"])
    return None


def admissions_of(connection: Connection, run: str, event_ids: Sequence[str]) -> list[Row]:
    """Admissions of these events with the object that holds each receipt (None while it is not sealed)."""
    parameters = {"run": run, "types": list(EVENT_TYPES), "ids": list(event_ids)}
    return _all(connection, load(_SQL, "traces_admissions.sql"), parameters)


def quarantined(connection: Connection, run: str, event_id: str) -> list[Row]:
    """Refusals of an event."""
    return _all(
        connection,
        "select event_id, event_type, reason, detail, quarantined_at from ig.quarantine"
        " where platform_run_id = %(run)s and event_id = %(id)s order by quarantined_at",
        {"run": run, "id": event_id},
    )


def record_at(connection: Connection, topic: str, partition: int, position: int) -> Row | None:
    """A record of the bus by its place, its body parsed."""
    row = _one(
        connection,
        'select topic, "partition", "position", appended_at, body from bus.log where topic = %(topic)s and "partition" = %(partition)s and "position" = %(position)s',
        {"topic": topic, "partition": partition, "position": position},
    )
    return None if row is None else {**row, "body": orjson.loads(row["body"])}


def partitions_of(connection: Connection, topic: str) -> int:
    """How many partitions a topic has; 0 where there is no such topic."""
    row = _one(connection, "select count(*) as partitions from bus.heads where topic = %(topic)s", {"topic": topic})
    return row["partitions"] if row else 0


def place_on_bus(
    connection: Connection, run: str, topic: str, partition: int, *, key: str, event_id: str | None = None
) -> Row | None:
    """Where a record stands on the bus. Reads the partition through: the log is indexed by position only."""
    return _one(
        connection,
        'select topic, "partition", "position", appended_at from bus.log'
        ' where topic = %(topic)s and "partition" = %(partition)s and platform_run_id = %(run)s and record_key = %(key)s'
        ' and (%(id)s::text is null or event_id = %(id)s::text) order by "position" limit 1',
        {"topic": topic, "partition": partition, "run": run, "key": key, "id": event_id},
    )


def flow_of_frame(connection: Connection, run: str, scenario: str, frame_key: str) -> str | None:
    """The flow that left with a join frame, or is anchored to it."""
    row = _one(
        connection,
        "select coalesce((select taken_by from csfb.frames where platform_run_id = %(run)s"
        " and scenario_run_id = %(scenario)s and frame_key = %(frame)s), (select flow_id from csfb.anchors"
        " where platform_run_id = %(run)s and scenario_run_id = %(scenario)s and frame_key = %(frame)s limit 1)) as flow_id",
        {"run": run, "scenario": scenario, "frame": frame_key},
    )
    return None if row is None else row["flow_id"]


def pending(connection: Connection, run: str, flow_id: str) -> Row | None:
    """The flow while it waits for its context."""
    return _one(
        connection,
        'select scenario_run_id, event_id, "partition", "position" from csfb.pending'
        " where platform_run_id = %(run)s and flow_id = %(flow)s",
        {"run": run, "flow": flow_id},
    )


def anchor(connection: Connection, run: str, flow_id: str) -> Row | None:
    """Which frame the flow is anchored to."""
    return _one(
        connection,
        "select scenario_run_id, frame_key, event_id from csfb.anchors"
        " where platform_run_id = %(run)s and flow_id = %(flow)s",
        {"run": run, "flow": flow_id},
    )


def binding(connection: Connection, run: str, flow_id: str) -> Row | None:
    """How the flow left the context store."""
    return _one(connection, load(_SQL, "traces_binding.sql"), {"run": run, "flow": flow_id})


def snapshot(at: ConnectionOf, run: str, flow_id: str) -> Row | None:
    """The vector the flow was given, with the place and key of the bound record it was made for."""
    row = _one(
        at("OFP_PROJECTION_DSN"),
        "select snapshot_hash, feature_revision, bound_partition, bound_position from ofp.snapshots"
        " where platform_run_id = %(run)s and flow_id = %(flow)s",
        {"run": run, "flow": flow_id},
    )
    if row is None:
        return None
    bound = _one(
        at(EVENT_BUS_DSN),
        "select record_key from bus.log where topic = 'flows.bound' and \"partition\" = %(bound_partition)s"
        ' and "position" = %(bound_position)s',
        row,
    )
    return {**row, "record_key": bound and bound["record_key"]}


def decision(connection: Connection, run: str, flow_id: str) -> Row | None:
    """The decision as it was published, with when and from which record it was made."""
    row = _one(
        connection,
        "select decision_id, decided_topic, decided_partition, decided_position, decided_at, body from df.decisions"
        " where platform_run_id = %(run)s and flow_id = %(flow)s",
        {"run": run, "flow": flow_id},
    )
    return None if row is None else {**row, "body": orjson.loads(row["body"])}


def intents(connection: Connection, run: str, intent_ids: Sequence[str]) -> list[Row]:
    """What was asked for and how it ended."""
    return _all(connection, load(_SQL, "traces_intents.sql"), {"run": run, "ids": list(intent_ids)})


def chain(connection: Connection, run: str, chain_id: str) -> Row | None:
    """The audit chain of a decision."""
    return _one(
        connection,
        "select chain_id, state, intents_expected, outcomes_seen, record_key, opened_at, closed_at from dla.chains"
        " where platform_run_id = %(run)s and chain_id = %(chain)s",
        {"run": run, "chain": chain_id},
    )


def audit_object(connection: Connection, run: str, place: Mapping[str, Any]) -> Row | None:
    """The object that holds the chain at this place of `audit_chains`."""
    return _one(
        connection,
        "select object_key, state from dla.segments where platform_run_id = %(run)s and family = 'dla/audit'"
        ' and topic = %(topic)s and "partition" = %(partition)s'
        " and first_position <= %(position)s and last_position >= %(position)s",
        {"run": run, **place},
    )


def triggers(at: ConnectionOf, run: str, trigger_ids: Sequence[str]) -> list[Row]:
    """Triggers with the case and the entry where each was put (None while it is not placed)."""
    parameters = {"run": run, "ids": list(trigger_ids)}
    raised = _all(at("CASE_TRIGGER_REPLAY_DSN"), load(_SQL, "traces_triggers.sql"), parameters)
    placed = {
        row.pop("trigger_id"): row
        for row in _all(at("CASE_MGMT_LOCATOR"), load(_SQL, "traces_placements.sql"), parameters)
    }
    return [{**row, **placed.get(row["trigger_id"], _NOT_PLACED)} for row in raised]


def letters(at: ConnectionOf, run: str, event_ids: Sequence[str]) -> list[Row]:
    """Dead letters of any of these records, on whatever server."""
    found: list[Row] = []
    for connection in every_server(at):
        found += _all(
            connection,
            'select worker, topic, "partition", "position", event_id, reason, detail, state, dead_at from dead_letters.letters'
            " where platform_run_id = %(run)s and event_id = any(%(ids)s) order by dead_at",
            {"run": run, "ids": list(event_ids)},
        )
    return sorted(found, key=lambda row: str(row["dead_at"]))


def _one(connection: Connection, statement: LiteralString, parameters: Mapping[str, Any]) -> Row | None:
    rows = _all(connection, statement, parameters)
    return rows[0] if rows else None


def _all(connection: Connection, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, parameters)
        return [{key: _plain(value) for key, value in row.items()} for row in cursor]


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value
