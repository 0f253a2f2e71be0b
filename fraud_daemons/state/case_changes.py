"""The answers to what people asked of cases (case_mgmt.changes), and why a change was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class Answer:
    """What became of a request: APPLIED as timeline entry `entry`, or REFUSED with the reason in `detail`."""

    outcome: str
    detail: str
    entry: int | None

    @property
    def applied(self) -> bool:
        return self.outcome == "APPLIED"


def answer_to(connection: Connection, platform_run_id: str, request_id: str) -> Answer | None:
    """The owner's answer, or None as long as there is none."""
    row = connection.execute(
        "select outcome, detail, entry from case_mgmt.changes where platform_run_id = %s and request_id = %s",
        (platform_run_id, request_id),
    ).fetchone()
    return None if row is None else Answer(*row)


def put_answer(
    connection: Connection, *, platform_run_id: str, request_id: str, case_id: str, answer: Answer, at: datetime
) -> None:
    """Keep the answer to a request."""
    connection.execute(
        "insert into case_mgmt.changes (platform_run_id, request_id, case_id, outcome, detail, entry, answered_at)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        (platform_run_id, request_id, case_id, answer.outcome, answer.detail, answer.entry, at),
    )


def why_not(connection: Connection, platform_run_id: str, case_id: str) -> str:
    """Why a case could not be changed: gone, resolved, or changed by somebody else meanwhile."""
    row = connection.execute(
        "select c.status, c.disposition, c.version, t.kind, coalesce(t.body ->> 'actor', 'case_management')"
        " from case_mgmt.cases c left join case_mgmt.timeline t on t.platform_run_id = c.platform_run_id"
        " and t.case_id = c.case_id and t.entry = c.last_entry where c.platform_run_id = %s and c.case_id = %s",
        (platform_run_id, case_id),
    ).fetchone()
    if row is None:
        return f"there is no case {case_id} in run {platform_run_id}"
    status, disposition, version, kind, actor = row
    if status == "RESOLVED":
        return f"it was resolved as {disposition} by {actor}; the next trigger of its subject opens another case"
    return f"it was changed meanwhile: {kind} by {actor}, it is at version {version} now; look at it, then ask again"


def flows_of(connection: Connection, platform_run_id: str, case_id: str) -> list[str]:
    """The flows whose triggers are in a case, each once."""
    rows = connection.execute(
        "select distinct body ->> 'flow_id' from case_mgmt.timeline"
        " where platform_run_id = %s and case_id = %s and kind in ('OPENED', 'MERGED') order by 1",
        (platform_run_id, case_id),
    )
    return [row[0] for row in rows]


def times_of_flows(connection: Connection, platform_run_id: str, flows: Sequence[str]) -> dict[str, datetime]:
    """When each of the flows occurred, from their decisions; `connection` = DF_REPLAY_DSN's."""
    rows = connection.execute(
        "select flow_id, occurred_at from df.decisions where platform_run_id = %s and flow_id = any(%s)",
        (platform_run_id, list(flows)),
    )
    return {str(flow_id): occurred_at for flow_id, occurred_at in rows}
