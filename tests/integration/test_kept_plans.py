"""Workers of the line plan a statement once per session: what was planned for an empty table must serve a full one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.clock import SystemClock
from fraud_daemons.domain.admission import Item
from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.state import admissions
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress import ingestion_gate
from fraud_daemons.workers.control_ingress._gate_decisions import Decisions
from fraud_daemons.workers.control_ingress._gate_intake import Intake
from fraud_daemons.workers.control_ingress._gate_keys import Keys
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts
from fraud_daemons.workers.decision_lane import decision_fabric
from tests.gate import CLIENT_KEY, events_of, mark, prepare, traffic
from tests.integration.whole_line import finish, stream_the_world
from tests.line import RUN, Line

pytestmark = pytest.mark.datastore

READ_WHOLE = {"positions", "heads", "principals"}
"""One row per worker, per topic, per key."""
TIMES = 7
"""A statement is prepared when it comes for the sixth time."""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def kept_and_scanned(connection: Connection) -> tuple[int, dict[str, list[str]]]:
    """How many plans a session keeps; and those of them that read the whole of a table that grows, with the tables."""
    kept = connection.execute(
        "select name, statement, cardinality(parameter_types) from pg_prepared_statements where generic_plans > 0"
    ).fetchall()
    scanned = {}
    for name, statement, parameters in kept:
        given = f"({', '.join(['null'] * parameters)})" if parameters else ""
        row = connection.execute(f"explain (format json) execute {name}{given}", prepare=False).fetchone()
        assert row is not None
        [explained] = row[0]
        if explained == "Utility Statement":
            continue
        tables = [
            node["Relation Name"]
            for node in nodes(explained["Plan"])
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in READ_WHOLE
        ]
        if tables:
            scanned[statement] = tables
    return len(kept), scanned


def test_no_plan_that_a_session_keeps_scans_a_table_that_grows(line: Line, short_dir: Path) -> None:
    """Batches of four, so that every statement comes often enough to be prepared, the first of them on empty tables."""
    stream_the_world(line, short_dir)
    finish(line, settings={"loop.batch_records_max": 4})
    with line.database_for(decision_fabric.WORKER).scope() as connection:
        kept, scanned = kept_and_scanned(connection)
    assert kept > 40, "the line's statements were not prepared"
    assert scanned == {}


def test_no_plan_of_the_gate_scans_a_table_that_grows(line: Line) -> None:
    """New events and repeats, refused ones, marks, whole transactions, decisions, rows for receipts: each often enough."""
    prepare(line)
    database = line.database_for(ingestion_gate.WORKER)
    intake = Intake(
        database=database, runs_database=database, bus=line.bus, clock=SystemClock(), currency="USD", fresh=FreshReceipts()
    )  # fmt: skip
    sender = Principal("sender", "", frozenset(EVENT_TYPES))
    for number in range(TIMES):
        events = [*events_of(range(number * 5, number * 5 + 5), run=RUN), mark("traffic", number, run=RUN)]
        for _ in range(2):
            intake.admit([Item(event) for event in events], sender)
        intake.admit([Item(traffic(number, run=RUN, amount_minor=-1)), Item(traffic(number, run="platform_20200101T000000Z"))], sender)  # fmt: skip
        Decisions(database, SystemClock(), waiters_max=1, wait_ms_max=1).find(str(number), wait_ms=0)
        Keys(database, SystemClock()).principal(CLIENT_KEY)
        with database.scope() as connection:
            admissions.unsealed_records(connection, sealers=ingestion_gate.SEALERS)
            admissions.receipts_from(connection, "traffic", 0, position=0, limit=100)
    with database.scope() as connection:
        kept, scanned = kept_and_scanned(connection)
    assert kept >= 9, "the gate's statements were not prepared"
    assert scanned == {}


def test_the_hashes_in_the_key_tell_event_types_apart(line: Line) -> None:
    """Two types with one hash would take each other's key for the same id."""
    rows = line.sql("select count(distinct hashtext(type)) from unnest(%s::text[]) as t(type)", ([*EVENT_TYPES],))
    assert rows == [(len(EVENT_TYPES),)]
