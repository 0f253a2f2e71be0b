"""Reads what a training slice is made of: decided flows up to a time, and the assertions about them, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row

from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"
FLOWS_AT_ONCE: Final = 1_000


def decided(connection: Connection, platform_run_id: str, *, at: datetime) -> Iterator[list[dict[str, Any]]]:
    """Pages of the decisions about flows that had occurred at `at`; `connection` = DF_REPLAY_DSN's."""
    with connection.cursor(name="training_slice", row_factory=dict_row) as cursor:
        cursor.execute(load(_SQL, "labels_slice.sql"), {"run": platform_run_id, "at": at})
        rows = cursor.fetchmany(FLOWS_AT_ONCE)
        while rows:
            yield rows
            rows = cursor.fetchmany(FLOWS_AT_ONCE)


def assertions_of_flows(
    connection: Connection, platform_run_id: str, flows: Sequence[str], *, at: datetime
) -> dict[str, list[dict[str, Any]]]:
    """What was known at `at` about these flows, by flow; `connection` = LABEL_STORE_LOCATOR's."""
    found: dict[str, list[dict[str, Any]]] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            'select label_id, flow_id, "type", "value", fraud_type, source, effective_time, observed_time, supersedes'
            " from label_store.assertions where platform_run_id = %s and flow_id = any(%s) and observed_time <= %s",
            (platform_run_id, list(flows), at),
        )
        for row in cursor:
            found.setdefault(row["flow_id"], []).append(row)
    return found
