"""The answers to assertions that people asked for (label_store.requests)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class LabelAnswer:
    """What became of a request: APPLIED as label `label_id`, or REFUSED with the reason in `detail`."""

    outcome: str
    detail: str
    label_id: str | None

    @property
    def applied(self) -> bool:
        return self.outcome == "APPLIED"


def answer_to(connection: Connection, platform_run_id: str, request_id: str) -> LabelAnswer | None:
    """The owner's answer, or None as long as there is none."""
    row = connection.execute(
        "select outcome, detail, label_id from label_store.requests where platform_run_id = %s and request_id = %s",
        (platform_run_id, request_id),
    ).fetchone()
    return None if row is None else LabelAnswer(*row)


def put_answer(
    connection: Connection, *, platform_run_id: str, request_id: str, flow_id: str, asked_by: str, answer: LabelAnswer,
    at: datetime,
) -> None:  # fmt: skip
    """Keep the answer to a request."""
    connection.execute(
        "insert into label_store.requests (platform_run_id, request_id, flow_id, asked_by, outcome, detail, label_id,"
        " answered_at) values (%s, %s, %s, %s, %s, %s, %s, %s)",
        (platform_run_id, request_id, flow_id, asked_by, answer.outcome, answer.detail, answer.label_id, at),
    )
