"""Cases, placements of triggers, timelines.

The worker places triggers by the batch; people change one case at a time. Both take the case's row lock before they
number an entry, and every change moves the case's version on, so nobody's update is lost or seen half.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from psycopg.rows import dict_row

from fraud_daemons.domain.cases import EntryKind, Placement, SubjectCase
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"


class Subject(NamedTuple):
    """Whose cases: a run's card or flow."""

    platform_run_id: str
    subject_kind: str
    subject: str


class TriggerKey(NamedTuple):
    """A trigger of a run."""

    platform_run_id: str
    trigger_id: str


@dataclass(frozen=True, slots=True)
class PlacedTrigger:
    """A trigger, its content hash, where the merge rule put it, and the timeline entry that says so."""

    trigger: Mapping[str, Any]
    content_sha256: str
    placement: Placement
    entry: dict[str, Any]


def lock_latest(connection: Connection, subjects: Iterable[Subject]) -> dict[Subject, SubjectCase]:
    """The latest case of each subject that has one, locked until the transaction ends."""
    wanted = sorted(set(subjects))
    rows = connection.execute(
        load(_SQL, "cases_lock_latest.sql"),
        {
            "runs": [s.platform_run_id for s in wanted],
            "kinds": [s.subject_kind for s in wanted],
            "subjects": [s.subject for s in wanted],
        },
    )
    return {
        Subject(run, kind, subject): SubjectCase(ordinal=ordinal, is_open=status == "OPEN", last_entry=last_entry)
        for run, kind, subject, _case, ordinal, status, last_entry, _version in rows
    }


def placed(connection: Connection, triggers: Iterable[TriggerKey]) -> dict[TriggerKey, str]:
    """Content hash by trigger, for those placed before. Ask after `lock_latest`, so that no placement is missed."""
    wanted = list(dict.fromkeys(triggers))
    rows = connection.execute(
        load(_SQL, "cases_placed.sql"),
        {"runs": [t.platform_run_id for t in wanted], "triggers": [t.trigger_id for t in wanted]},
    )
    return {TriggerKey(run, trigger): digest for run, trigger, digest in rows}


def write(connection: Connection, placements: Sequence[PlacedTrigger], *, at: datetime) -> None:
    """Open, grow, place and log one batch. Raises TransientFault when somebody else changed a case meanwhile."""
    opened, grown = _cases_of(placements)
    _store(connection, "cases_open.sql", opened, at=at)
    _store(connection, "cases_grow.sql", grown, at=at)
    rows = [
        {
            "platform_run_id": p.trigger["platform_run_id"],
            "case_id": p.placement.case_id,
            "entry": p.placement.entry,
            "kind": p.placement.kind,
            "trigger_id": p.trigger["trigger_id"],
            "content_sha256": p.content_sha256,
            "body": p.entry,
        }
        for p in placements
    ]
    _store(connection, "cases_place.sql", rows, at=at)


def keep_conflicts(connection: Connection, triggers: Sequence[tuple[Mapping[str, Any], str]], *, at: datetime) -> None:
    """Keep (body, content hash) of triggers whose id was placed before with other content."""
    rows = {
        (body["platform_run_id"], body["trigger_id"], digest): {
            "platform_run_id": body["platform_run_id"],
            "trigger_id": body["trigger_id"],
            "content_sha256": digest,
            "body": body,
        }
        for body, digest in triggers
    }
    if rows:
        parameters = {"rows": orjson.dumps(list(rows.values())).decode(), "at": at}
        connection.execute(load(_SQL, "cases_keep_conflicts.sql"), parameters)


def change(
    connection: Connection,
    *,
    platform_run_id: str,
    case_id: str,
    kind: EntryKind,
    at: datetime,
    expected_version: int | None = None,
    assignee: str | None = None,
    disposition: str | None = None,
) -> int | None:
    """One person's change of an open case; the number of the timeline entry to append in this same transaction.

    None = nothing changed: no such case, no longer open, or no longer at `expected_version` (None accepts any - right
    for a note, wrong for a resolution, whose author must have seen every trigger).
    """
    row = connection.execute(
        load(_SQL, "cases_change.sql"),
        {
            "run": platform_run_id,
            "case": case_id,
            "kind": str(kind),
            "version": expected_version,
            "assignee": assignee,
            "disposition": disposition,
            "at": at,
        },
    ).fetchone()
    return None if row is None else int(row[0])


def append_entry(connection: Connection, entry: Mapping[str, Any], *, at: datetime) -> None:
    """Append the entry that `change` numbered."""
    connection.execute(
        "insert into case_mgmt.timeline (platform_run_id, case_id, entry, kind, body, recorded_at)"
        " values (%s, %s, %s, %s, %s::jsonb, %s)",
        (
            entry["platform_run_id"],
            entry["case_id"],
            entry["entry"],
            entry["kind"],
            orjson.dumps(entry).decode(),
            at,
        ),
    )


def list_cases(
    connection: Connection, platform_run_id: str, *, only: Mapping[str, str | None], after: str | None, limit: int
) -> list[dict[str, Any]]:
    """A page of the queue, oldest first, behind case `after`. `only` = status, disposition, assignee ("" for nobody) and
    subject; None of each is all."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(load(_SQL, "cases_list.sql"), {"run": platform_run_id, **only, "after": after, "limit": limit})
        return cursor.fetchall()


def case_of(connection: Connection, platform_run_id: str, case_id: str) -> dict[str, Any] | None:
    """One case's row, or None."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "select case_id, subject_kind, subject, ordinal, status, assignee, disposition, triggers, last_entry, version,"
            " opened_at, changed_at from case_mgmt.cases where platform_run_id = %s and case_id = %s",
            (platform_run_id, case_id),
        )
        return cursor.fetchone()


def timeline_of(
    connection: Connection, platform_run_id: str, case_id: str, *, after: int = 0, limit: int
) -> list[dict[str, Any]]:
    """Entries of a case behind entry `after`, in order."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "select entry, kind, body, recorded_at from case_mgmt.timeline"
            " where platform_run_id = %s and case_id = %s and entry > %s order by entry limit %s",
            (platform_run_id, case_id, after, limit),
        )
        return cursor.fetchall()


def _cases_of(placements: Sequence[PlacedTrigger]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a batch does to the cases: those it opens and those it only grows, one row each."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for p in placements:
        key = (p.trigger["platform_run_id"], p.placement.case_id)
        row = rows.setdefault(
            key,
            {
                "platform_run_id": p.trigger["platform_run_id"],
                "case_id": p.placement.case_id,
                "subject_kind": p.trigger["subject_kind"],
                "subject": p.trigger["subject"],
                "ordinal": p.placement.ordinal,
                "triggers": 0,
                "opens": p.placement.kind == EntryKind.OPENED,
            },
        )
        row["triggers"] += 1
        row["last_entry"] = p.placement.entry
    return [row for row in rows.values() if row["opens"]], [row for row in rows.values() if not row["opens"]]


def _store(connection: Connection, statement: str, rows: Sequence[Mapping[str, Any]], *, at: datetime) -> None:
    if not rows:
        return
    cursor = connection.execute(load(_SQL, statement), {"rows": orjson.dumps(rows).decode(), "at": at})
    if cursor.rowcount != len(rows):
        raise TransientFault(
            f"{statement}: {cursor.rowcount} of {len(rows)} rows; somebody changed a case of this batch, doing it again",
            reason="cases: changed by somebody else",
        )
