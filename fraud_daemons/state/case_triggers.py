"""Case triggers: one row per derived id. A repeat is absorbed; the same id with other content is kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"


@dataclass(frozen=True, slots=True)
class SourcedTrigger:
    """A `case_triggers` body, the decision or intent it was raised for, and the record it was made from."""

    body: dict[str, Any]
    source_id: str
    topic: str
    partition: int
    position: int


def add(connection: Connection, triggers: Sequence[SourcedTrigger], *, at: datetime) -> list[dict[str, Any]]:
    """Store what is new; returns the bodies of the new ones, in the order given."""
    if not triggers:
        return []
    rows = [
        {
            **trigger.body,
            "content_sha256": hashlib.sha256(canonical_json(trigger.body)).hexdigest(),
            "source_id": trigger.source_id,
            "source_topic": trigger.topic,
            "partition": trigger.partition,
            "position": trigger.position,
        }
        for trigger in triggers
    ]
    parameters = {"rows": orjson.dumps(rows).decode(), "at": at}
    new = {(run, trigger) for run, trigger in connection.execute(load(_SQL, "case_triggers_add.sql"), parameters)}
    if len(new) < len(rows):
        _keep_conflicts(connection, triggers, rows, at=at)
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for trigger in triggers:
        first.setdefault((trigger.body["platform_run_id"], trigger.body["trigger_id"]), trigger.body)
    return [body for key, body in first.items() if key in new]


def _keep_conflicts(
    connection: Connection, triggers: Sequence[SourcedTrigger], rows: Sequence[dict[str, Any]], *, at: datetime
) -> None:
    """Keep what repeats an id with other content; rows that equal the stored one are left out by the statement."""
    distinct = {
        (row["platform_run_id"], row["trigger_id"], row["content_sha256"]): {**row, "body": trigger.body}
        for trigger, row in zip(triggers, rows, strict=True)
    }
    parameters = {"rows": orjson.dumps(list(distinct.values())).decode(), "at": at}
    connection.execute(load(_SQL, "case_triggers_keep_conflicts.sql"), parameters)
