"""Workers of the line plan a statement once per session: what was planned for an empty table must serve a full one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fraud_daemons.workers.decision_lane import decision_fabric
from tests.integration.whole_line import finish, stream_the_world
from tests.line import Line

pytestmark = pytest.mark.datastore

SCAN = re.compile(r"Seq Scan on (\w+)")
READ_WHOLE = {"positions"}
"""One row per worker and topic; trimming asks for all of them."""


def test_no_plan_that_a_session_keeps_scans_a_table_that_grows(line: Line, short_dir: Path) -> None:
    """Batches of four, so that every statement comes often enough to be prepared, the first of them on empty tables."""
    stream_the_world(line, short_dir)
    finish(line, settings={"loop.batch_records_max": 4})
    with line.database_for(decision_fabric.WORKER).scope() as connection:
        kept = connection.execute(
            "select name, statement, cardinality(parameter_types) from pg_prepared_statements where generic_plans > 0"
        ).fetchall()
        scanned = {}
        for name, statement, parameters in kept:
            given = f"({', '.join(['null'] * parameters)})" if parameters else ""
            lines = connection.execute(f"explain (costs off) execute {name}{given}", prepare=False).fetchall()
            tables = {found for (text,) in lines for found in SCAN.findall(text)} - READ_WHOLE
            if tables:
                scanned[statement] = tables, lines
    assert len(kept) > 40, "the line's statements were not prepared"
    assert scanned == {}
