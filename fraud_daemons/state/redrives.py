"""Refused events that went through the gate again (ig.redrives): how each request ended, and the receipt it led to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row

from fraud_daemons.domain.admission import Identity
from fraud_daemons.postgres_runtime.connector import Connection

NOBODY: Final = Identity("", "", "")
"""Of what was not admitted."""


@dataclass(frozen=True)
class RedriveAnswer:
    """ADMITTED now, DUPLICATE of what was admitted before - both with the receipt's key -, or REFUSED by a reason code."""

    outcome: str
    refusal: str = ""
    detail: str = ""
    admitted: Identity = NOBODY

    @property
    def is_admitted(self) -> bool:
        return self.outcome != "REFUSED"


def answer_to(connection: Connection, platform_run_id: str, request_id: str) -> RedriveAnswer | None:
    """The gate's answer, or None as long as there is none."""
    row = connection.execute(
        "select outcome, refusal, detail, admitted_run, event_type, event_id from ig.redrives"
        " where platform_run_id = %s and request_id = %s",
        (platform_run_id, request_id),
    ).fetchone()
    return None if row is None else RedriveAnswer(row[0], row[1], row[2], Identity(*row[3:]))


def put_answer(
    connection: Connection, *, platform_run_id: str, request_id: str, quarantine_id: str, asked_by: str, reason: str,
    answer: RedriveAnswer, at: datetime,
) -> None:  # fmt: skip
    """Keep the answer to a request."""
    connection.execute(
        "insert into ig.redrives (platform_run_id, request_id, quarantine_id, asked_by, reason, outcome, refusal, detail,"
        " admitted_run, event_type, event_id, answered_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            platform_run_id,
            request_id,
            quarantine_id,
            asked_by,
            reason,
            answer.outcome,
            answer.refusal,
            answer.detail[:2000],
            *answer.admitted,
            at,
        ),
    )


def of_quarantined(connection: Connection, quarantine_id: str) -> list[dict[str, Any]]:
    """Every redrive of a refused event, oldest first, with the place of the receipt it led to."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "select r.outcome, r.refusal, r.detail, r.asked_by, r.reason, r.answered_at, r.admitted_run, r.event_type,"
            ' r.event_id, a.topic, a."partition", a."position", a.payload_hash, a.admitted_at from ig.redrives r'
            " left join ig.admissions a on hashtextextended(a.platform_run_id, 0) = hashtextextended(r.admitted_run, 0)"
            " and a.event_id::uuid = nullif(r.event_id, '')::uuid"
            " and a.platform_run_id = r.admitted_run and a.event_type = r.event_type where r.quarantine_id = %s order by r.answered_at, r.request_id",
            (quarantine_id,),
        )
        return cursor.fetchall()
