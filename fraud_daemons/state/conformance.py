"""The last round of environment conformance, and every change of a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from fraud_daemons.postgres_runtime.connector import Connection

CHANGES_KEPT: Final = 10_000


def latest(connection: Connection) -> dict[str, Any] | None:
    """{"checked_at", "verdict", "checks": […]} of the last round; None before the first."""
    row = connection.execute("select checked_at, verdict, checks from conformance.latest").fetchone()
    return None if row is None else {"checked_at": row[0], "verdict": row[1], "checks": row[2]}


def put(connection: Connection, checks: Sequence[Mapping[str, Any]], *, verdict: str, at: datetime) -> list[str]:
    """Note a round; the names of the checks whose verdict is another than last time."""
    before = latest(connection)
    verdicts = {} if before is None else {check["check"]: check["verdict"] for check in before["checks"]}
    changed = [check for check in checks if verdicts.get(check["check"], "PASS") != check["verdict"]]
    connection.execute(
        "insert into conformance.latest (checked_at, verdict, checks) values (%s, %s, %s) on conflict (only_row) do update"
        " set checked_at = excluded.checked_at, verdict = excluded.verdict, checks = excluded.checks",
        (at, verdict, Jsonb(list(checks))),
    )
    if changed:
        connection.execute(
            'insert into conformance.changes (changed_at, "check", verdict, expected, observed)'
            " select %s, * from unnest(%s::text[], %s::text[], %s::text[], %s::text[])",
            (at, *([check[key] for check in changed] for key in ("check", "verdict", "expected", "observed"))),
        )
        connection.execute(
            "delete from conformance.changes where sequence <= (select max(sequence) from conformance.changes) - %s",
            (CHANGES_KEPT,),
        )
    return [check["check"] for check in changed]
