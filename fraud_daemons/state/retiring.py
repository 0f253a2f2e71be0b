"""Runs whose state is given up: which may be, which are, and the deletion of their rows, a bounded batch at a time.

What people did stays - cases, labels -, and so do reports, the ledgers of objects, dead letters and `control`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import sql

from fraud_daemons.config.dsns import EVENT_BUS_DSN
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.admissions import OF_RUN
from fraud_daemons.state.archive_ends import archive_ends
from fraud_daemons.state.every_server import every_server

_SQL = "fraud_daemons.state.sql"
_ARCHIVE_FAMILY: Final = "archive"
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "ig": ("admissions", "repeats", "quarantine"),
    "wsp": ("journal", "wsp_checkpoint"),
    "csfb": ("pending", "anchors", "frames", "marks", "bindings", "anomalies", "repeats"),
    "ofp": ("entity_events", "snapshots", "warmed_flows", "labels", "label_marks", "anomalies", "runs"),
    "ieg": ("applied", "entities", "edges", "versions", "anomalies"),
    "df": ("decisions", "late_features", "conflicts", "repeats", "policies"),
    "al": ("intents", "outcomes", "conflicts", "repeats"),
    "dla": ("chains", "outcomes", "conflicts", "repeats"),
}
"""Schema -> its tables whose rows belong to one run and go with it. `platform_run_id` leads a key of each, or its hash."""
_OF_RUN: Final = sql.SQL("platform_run_id = %(run)s")
_BY_HASH: Final = sql.SQL(
    "hashtextextended(platform_run_id, 0) = hashtextextended(%(run)s, 0) and platform_run_id = %(run)s"
)


@dataclass(frozen=True)
class Candidate:
    """A run that ended, what its newest report says - None without one -, and whether another is asked for and not made.

    `anchors` = where each chain of its evidence ended, as the report has them."""

    platform_run_id: str
    verdict: str | None
    report_key: str | None
    reported_at: datetime | None
    caught_up: bool | None
    anchors: Sequence[Mapping[str, Any]] | None
    asked: bool


def candidates(
    connection: Connection, *, ended_before: datetime, limit: int, after: str | None = None
) -> list[Candidate]:
    """Runs that ended before a moment, oldest first, behind run `after`; never the current one. `connection` = to PLATFORM_DSN."""
    rows = connection.execute(
        load(_SQL, "retiring_candidates.sql"), {"ended_before": ended_before, "limit": limit, "after": after}
    )
    return [Candidate(*row) for row in rows]


def came_after(at: ConnectionOf, run: str, anchors: Sequence[Mapping[str, Any]]) -> bool:
    """Whether more of what the gate admitted for the run is archived than when these anchors were taken. When nothing of the
    run is under way, now and then, that is whether events came."""
    places = at(EVENT_BUS_DSN).execute(
        'select topic, "partition" from bus.heads where topic = any(%s)', ([*OUTPUTS, TRUTH],)
    )
    ends = archive_ends(at, run, places.fetchall())
    known = {(end["topic"], end["partition"], end["sha256"]) for end in anchors if end["family"] == _ARCHIVE_FAMILY}
    return not known.issuperset((*where, end.sha256) for where, end in ends.items())


def last_redrive(at: ConnectionOf, run: str) -> datetime | None:
    """When a dead letter of the run was last handled again, on whatever server."""
    rows = [
        connection.execute(load(_SQL, "retiring_last_redrive.sql"), (run,)).fetchone()
        for connection in every_server(at)
    ]
    return max((row[0] for row in rows if row and row[0]), default=None)


def retire(connection: Connection, run: str, *, report_key: str, at: datetime) -> None:
    """From now on nothing is admitted for the run."""
    connection.execute(
        "insert into control.retired_runs (platform_run_id, report_key, retired_at) values (%s, %s, %s) on conflict do nothing",
        (run, report_key, at),
    )


def decide_alone(connection: Connection, run: str) -> None:
    """Until the caller's transaction ends nobody else retires the run, or gives an order that needs its state: whoever asks
    after this whether it may go, or is gone, hears what stays true. `connection` = to PLATFORM_DSN."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended('retiring ' || %s, 0))", (run,))


def keep_unretired(connection: Connection, run: str) -> tuple[datetime, str] | None:
    """When the run was retired, and the key of its last report. None: it was not, and is not before the caller's transaction
    ends. `connection` = to PLATFORM_DSN."""
    decide_alone(connection, run)
    return retired(connection).get(run)


def retired(connection: Connection, *, before: datetime | None = None) -> dict[str, tuple[datetime, str]]:
    """Retired runs: when, and the key of the last report."""
    rows = connection.execute(
        "select platform_run_id, retired_at, report_key from control.retired_runs where retired_at <= coalesce(%s::timestamptz, 'infinity')"
        " order by retired_at",
        (before,),
    )
    return {run: (at, key) for run, at, key in rows}


def delete_some(connection: Connection, schema: str, table: str, run: str, *, limit: int) -> int:
    """Delete up to `limit` rows of a run; how many there were. By the key, whatever the planner makes of `limit`: reading
    the table instead would go through all that other runs have there, with every batch."""
    connection.execute("select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)")
    statement = sql.SQL("delete from {table} where ctid = any(array({some}))").format(
        table=sql.Identifier(schema, table), some=some_of(schema, table)
    )
    return connection.execute(statement, {"run": run, "limit": limit}).rowcount


def some_of(schema: str, table: str) -> sql.Composed:
    """Where up to `%(limit)s` rows of run `%(run)s` stand."""
    of_run = sql.SQL(OF_RUN) if (schema, table) == ("ig", "admissions") else _OF_RUN
    return sql.SQL("select ctid from {table} where {of_run} limit %(limit)s").format(
        table=sql.Identifier(schema, table), of_run=of_run
    )
