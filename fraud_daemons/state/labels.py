"""Label assertions, append-only. A repeat is absorbed; the same id with other content is kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg.rows import dict_row

from fraud_daemons.clock import iso
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"
_COLUMNS = (
    'label_id, flow_id, "type", "value", fraud_type, source, source_ref, source_event_id, effective_time, observed_time,'
    " recorded_at, supersedes"
)


ItemKey = tuple[str, ...]
"""What makes an assertion or a mark the same one again."""


@dataclass(frozen=True, slots=True)
class SourcedAssertion:
    """A `labels` body, the source reference its id was derived from, and the event that said so."""

    body: dict[str, Any]
    source_ref: str
    source_event_id: str

    @property
    def platform_run_id(self) -> str:
        return str(self.body["platform_run_id"])

    @property
    def key(self) -> ItemKey:
        return self.platform_run_id, self.body["label_id"]


@dataclass(frozen=True, slots=True)
class SourcedMark:
    """A progress mark of the truth feed as it stands on one of its partitions."""

    platform_run_id: str
    event_id: str
    partition: int
    payload: dict[str, Any]

    @property
    def key(self) -> ItemKey:
        return self.platform_run_id, self.event_id, str(self.partition)


def add(connection: Connection, assertions: Sequence[SourcedAssertion], *, at: datetime) -> set[ItemKey]:
    """Store what is new; the keys of the new ones. Of two alike in one call the first is stored."""
    if not assertions:
        return set()
    rows = [_row(assertion) for assertion in assertions]
    found = connection.execute(load(_SQL, "labels_add.sql"), {"rows": orjson.dumps(rows).decode()})
    new: set[ItemKey] = {(run, label) for run, label in found}
    if len(new) < len(rows):
        _keep_conflicts(connection, assertions, rows, at=at)
    return new


def add_marks(connection: Connection, marks: Sequence[SourcedMark], *, at: datetime) -> set[ItemKey]:
    """Note marks as forwarded; the keys of those that were not before."""
    if not marks:
        return set()
    rows = [
        {
            **mark.payload,
            "platform_run_id": mark.platform_run_id,
            "event_id": mark.event_id,
            "partition": mark.partition,
        }
        for mark in marks
    ]
    found = connection.execute(load(_SQL, "labels_forward_marks.sql"), {"rows": orjson.dumps(rows).decode(), "at": at})
    return {(run, event, str(partition)) for run, event, partition in found}


def assertions_of(connection: Connection, platform_run_id: str, flow_id: str) -> list[dict[str, Any]]:
    """Every assertion about a flow, superseded ones too, in the order in which they became known; times as ISO text."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"select {_COLUMNS} from label_store.assertions where platform_run_id = %s and flow_id = %s"
            " order by observed_time, label_id",
            (platform_run_id, flow_id),
        )
        return [_as_text(row) for row in cursor]


def exists(connection: Connection, platform_run_id: str, label_id: str) -> bool:
    """Whether the run has this assertion."""
    row = connection.execute(
        "select 1 from label_store.assertions where platform_run_id = %s and label_id = %s", (platform_run_id, label_id)
    ).fetchone()
    return row is not None


def list_assertions(
    connection: Connection,
    platform_run_id: str,
    *,
    at: datetime | None,
    after: str | None,
    limit: int,
    only: Mapping[str, str | None] | None = None,
) -> list[dict[str, Any]]:
    """A page of a run's assertions known at `at` (None: all), behind label `after`; times as ISO text. `only` = by
    label_type, value, source, flow; None of each is all."""
    chosen = {**dict.fromkeys(("label_type", "value", "source", "flow")), **(only or {})}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            load(_SQL, "labels_list.sql"), {"run": platform_run_id, "at": at, "after": after, "limit": limit, **chosen}
        )
        return [_as_text(row) for row in cursor]


def _keep_conflicts(
    connection: Connection, assertions: Sequence[SourcedAssertion], rows: Sequence[dict[str, Any]], *, at: datetime
) -> None:
    """Keep what repeats an id with other content; rows that equal the stored one are left out by the statement."""
    distinct = {
        (row["platform_run_id"], row["label_id"], row["content_sha256"]): {**row, "body": assertion.body}
        for assertion, row in zip(assertions, rows, strict=True)
    }
    connection.execute(
        load(_SQL, "labels_keep_conflicts.sql"), {"rows": orjson.dumps(list(distinct.values())).decode(), "at": at}
    )


def _row(assertion: SourcedAssertion) -> dict[str, Any]:
    # recorded_at is ours and differs at every try: it is no part of the content
    content = {key: value for key, value in assertion.body.items() if key != "recorded_at"}
    return {
        **assertion.body,
        "source_ref": assertion.source_ref,
        "source_event_id": assertion.source_event_id,
        "content_sha256": hashlib.sha256(canonical_json(content)).hexdigest(),
    }


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    return {key: iso(value) if isinstance(value, datetime) else value for key, value in row.items()}
