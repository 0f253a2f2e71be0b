"""What the console shows of the tables: how far each topic and stage is, the latest decisions, cases, labels and reports.

Each function is a statement or two over a primary key or an index, so that looking every second costs next to nothing.
Nothing here writes, and nothing joins the tables of two components: they may stand on different servers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from fraud_daemons.config.dsns import EVENT_BUS_DSN
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.every_server import every_server

_SQL: Final = "fraud_daemons.state.sql"
DECISIONS_LOOKED_AT_MAX: Final = 300
REPORTS_SHOWN_MAX: Final = 8


def heads(connection: Connection) -> dict[str, int]:
    """Records ever appended, per topic. `connection` = to EVENT_BUS_DSN."""
    rows = connection.execute("select topic, sum(next_position)::bigint from bus.heads group by topic")
    return dict(rows.fetchall())


def stage_lags(at: ConnectionOf) -> list[tuple[str, str, int]]:
    """(checkpoint name, topic, records not yet taken), every stage of every server."""
    # checkpoints before heads: what is published meanwhile may show as still to come, never as passed
    positions: list[tuple[str, str, int, int]] = []
    for connection in every_server(at):
        positions += connection.execute('select worker, topic, "partition", "position" from checkpoints.positions')
    ends = {
        (topic, partition): position
        for topic, partition, position in at(EVENT_BUS_DSN).execute(
            'select topic, "partition", next_position from bus.heads'
        )
    }
    lags: Counter[tuple[str, str]] = Counter()
    for worker, topic, partition, position in positions:
        lags[worker, topic] += max(0, ends.get((topic, partition), 0) - position)
    return [(worker, topic, records) for (worker, topic), records in sorted(lags.items())]


def decisions(connection: Connection, platform_run_id: str) -> Mapping[str, Any]:
    """Of a run's newest decisions: how many, by outcome, and the time from the last part admitted to the decision durable;
    the newest with the share of known fraud at its terminal, None of it without features.

    `connection` = to DF_REPLAY_DSN."""
    row = connection.execute(
        load(_SQL, "overview_decisions.sql"), {"run": platform_run_id, "limit": DECISIONS_LOOKED_AT_MAX}
    ).fetchone()
    looked_at, outcomes, p50, p95, p99, newest = row if row else (0, {}, None, None, None, None)
    return {
        "looked_at": looked_at,
        "outcomes": outcomes or {},
        "latency_seconds": {"0.5": p50, "0.95": p95, "0.99": p99},
        "newest": newest,
    }


def cases(connection: Connection, platform_run_id: str) -> dict[str, int]:
    """A run's cases by status. `connection` = to CASE_MGMT_LOCATOR."""
    rows = connection.execute(
        "select status, count(*) from case_mgmt.cases where platform_run_id = %s group by status", (platform_run_id,)
    )
    return {"OPEN": 0, "RESOLVED": 0, **dict(rows.fetchall())}


def labels(connection: Connection, platform_run_id: str) -> dict[str, int]:
    """A run's label assertions by source. `connection` = to LABEL_STORE_LOCATOR."""
    rows = connection.execute(
        "select source, count(*) from label_store.assertions where platform_run_id = %s group by source",
        (platform_run_id,),
    )
    return {"HUMAN": 0, "EXTERNAL": 0, "AUTO": 0, **dict(rows.fetchall())}


def duplicates(connection: Connection) -> int:
    """Events that the gate met again, in all runs. `connection` = to IG_ADMISSION_DSN."""
    row = connection.execute("select coalesce(sum(repeats), 0)::bigint from ig.repeats").fetchone()
    return int(row[0]) if row else 0


def reports(connection: Connection) -> list[dict[str, Any]]:
    """The newest reports, newest first, with the lines that did not balance. `connection` = to PLATFORM_DSN."""
    rows = connection.execute(load(_SQL, "overview_reports.sql"), {"limit": REPORTS_SHOWN_MAX})
    return [
        {
            "platform_run_id": run,
            "request_id": request_id,
            "verdict": verdict,
            "state": state,
            "reported_at": at,
            "failed_lines": failed or [],
        }
        for run, request_id, verdict, state, at, failed in rows
    ]
