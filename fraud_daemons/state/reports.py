"""Requests for run reports, and the reports made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class Report:
    """A report whose bytes are fixed, as JSON and as a page; the keys are where its evidence goes."""

    platform_run_id: str
    request_id: str
    verdict: str
    body: bytes
    sha256: str
    object_key: str
    page: bytes
    page_sha256: str
    page_key: str


_COLUMNS = "platform_run_id, request_id, verdict, body, sha256, object_key, page, page_sha256, page_key"


def take_in(connection: Connection, requests: Sequence[tuple[str, str, str]]) -> None:
    """Note requests (run, request id, requested at); one that is known stays as it is."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into reporter.requests (platform_run_id, request_id, requested_at) values (%s, %s, %s)"
            " on conflict do nothing",
            list(requests),
        )


def next_request(connection: Connection) -> tuple[str, str] | None:
    """The oldest request without a report: (run, request id)."""
    row = connection.execute(
        "select platform_run_id, request_id from reporter.requests q where not exists"
        " (select from reporter.reports r where r.platform_run_id = q.platform_run_id and r.request_id = q.request_id)"
        " order by requested_at limit 1"
    ).fetchone()
    return (row[0], row[1]) if row else None


def intend(connection: Connection, report: Report, *, at: datetime) -> None:
    """Fix the report's bytes before they are put."""
    connection.execute(
        f"insert into reporter.reports ({_COLUMNS}, state, reported_at)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'INTENT', %s) on conflict do nothing",
        (
            report.platform_run_id,
            report.request_id,
            report.verdict,
            report.body,
            report.sha256,
            report.object_key,
            report.page,
            report.page_sha256,
            report.page_key,
            at,
        ),
    )


def unwritten(connection: Connection) -> list[Report]:
    """Reports whose object is not known to be there."""
    rows = connection.execute(f"select {_COLUMNS} from reporter.reports where state = 'INTENT'")
    return [Report(*row) for row in rows]


def complete(connection: Connection, report: Report) -> None:
    """The object is there: the report may be shown."""
    connection.execute(
        "update reporter.reports set state = 'COMPLETE' where platform_run_id = %s and request_id = %s",
        (report.platform_run_id, report.request_id),
    )


def set_conflict(connection: Connection, report: Report) -> None:
    """An object with other bytes stands at the report's key: it is neither shown nor tried again."""
    connection.execute(
        "update reporter.reports set state = 'CONFLICT' where platform_run_id = %s and request_id = %s",
        (report.platform_run_id, report.request_id),
    )


def conflict_key(connection: Connection, *, platform_run_id: str, request_id: str) -> str | None:
    """The object key at which a request's report met other bytes; None when it did not."""
    row = connection.execute(
        "select object_key from reporter.reports where platform_run_id = %s and request_id = %s and state = 'CONFLICT'",
        (platform_run_id, request_id),
    ).fetchone()
    return str(row[0]) if row else None


def finished(connection: Connection, *, platform_run_id: str, request_id: str) -> Report | None:
    """The report that answers a request, when its evidence is written."""
    row = connection.execute(
        f"select {_COLUMNS} from reporter.reports"
        " where platform_run_id = %s and request_id = %s and state = 'COMPLETE'",
        (platform_run_id, request_id),
    ).fetchone()
    return Report(*row) if row else None
