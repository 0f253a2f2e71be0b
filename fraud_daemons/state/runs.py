"""Runs: one execution of the platform each. Only `platform run new` begins one; nobody else writes control.runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from fraud_daemons.errors import CommandError
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.state import environment, governance
from fraud_daemons.state.governance import Kind


@dataclass(frozen=True)
class Run:
    """One run. `live` = external executors may fire."""

    platform_run_id: str
    started_at: datetime
    live: bool
    note: str


_COLUMNS = "platform_run_id, started_at, live, note"


def run_id_at(moment: datetime) -> str:
    """`platform_YYYYMMDDTHHMMSSZ`: the second in which the run began, UTC."""
    return moment.strftime("platform_%Y%m%dT%H%M%SZ")


def begin(
    connection: Connection,
    *,
    at: datetime,
    live: bool,
    note: str,
    by: str = "",
    sessions_elsewhere: Mapping[str, int] | None = None,
) -> Run:
    """Begin a run, which ends the one before. `sessions_elsewhere` = what the other servers had opened by then, by name.

    Raises CommandError when one began in the same second: ids are never made up to dodge that.
    """
    run, before = Run(run_id_at(at), at, live, note), current(connection)
    done = connection.execute(
        "insert into control.runs (platform_run_id, started_at, live, note) values (%s, %s, %s, %s)"
        " on conflict do nothing",
        (run.platform_run_id, run.started_at, run.live, run.note),
    )
    if done.rowcount == 0:
        raise CommandError(f"run {run.platform_run_id} began in this very second; wait a second and begin another")
    if before is not None:
        ended, follower = before.platform_run_id, {"next": run.platform_run_id}
        governance.record(
            connection, Kind.RUN_ENDED, subject=ended, by=by, at=at, detail=follower, platform_run_id=ended
        )
    detail = {"live": live, "note": note, "sessions": environment.sessions_opened(connection)}
    if sessions_elsewhere:
        detail["sessions_elsewhere"] = dict(sessions_elsewhere)
    governance.record(
        connection, Kind.RUN_STARTED, subject=run.platform_run_id, by=by, at=at, detail=detail,
        platform_run_id=run.platform_run_id,
    )  # fmt: skip
    return run


def current(connection: Connection) -> Run | None:
    """The newest run, None before the first."""
    row = connection.execute(
        f"select {_COLUMNS} from control.runs order by started_at desc, platform_run_id desc limit 1"
    ).fetchone()
    return Run(*row) if row else None


def find(connection: Connection, platform_run_id: str) -> Run | None:
    """The run of that id."""
    row = connection.execute(
        f"select {_COLUMNS} from control.runs where platform_run_id = %s", (platform_run_id,)
    ).fetchone()
    return Run(*row) if row else None


def newest(connection: Connection, *, limit: int, live: bool | None = None, after: str | None = None) -> list[Run]:
    """The newest runs, newest first, behind run `after`; `live` = only of this kind."""
    rows = connection.execute(
        f"select {_COLUMNS} from control.runs where (%(live)s::boolean is null or live = %(live)s)"
        " and (%(after)s::text is null or (started_at, platform_run_id) <"
        " (select started_at, platform_run_id from control.runs where platform_run_id = %(after)s))"
        " order by started_at desc, platform_run_id desc limit %(limit)s",
        {"live": live, "after": after, "limit": limit},
    )
    return [Run(*row) for row in rows]


def existing(connection: Connection, platform_run_ids: Collection[str]) -> set[str]:
    """Those of the ids that are runs and not retired."""
    rows = connection.execute(
        "select platform_run_id from control.runs r where platform_run_id = any(%s)"
        " and not exists (select from control.retired_runs t where t.platform_run_id = r.platform_run_id)",
        (sorted(platform_run_ids),),
    )
    return {row[0] for row in rows}
