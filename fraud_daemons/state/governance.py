"""Governance events: what people and the supervisor did to the platform. Each becomes an evidence object `<run>/gov/…`.

Call `record` in the transaction of the deed itself, so that neither is kept without the other; `connection` is one to
PLATFORM_DSN, as an operator's command has it. A deed on another server is recorded right after it. Nothing is changed or
deleted here.

    governance.record(connection, Kind.KEY_ROTATED, subject=principal, by=operator_name(), at=clock.now())
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from fraud_daemons.clock import iso
from fraud_daemons.domain.identity import canonical_json, derived_id
from fraud_daemons.postgres_runtime.connector import Connection

WRITTEN_AT_ONCE_MAX = 20


class Kind(StrEnum):
    """What can be done; `subject` names what it was done to."""

    RUN_STARTED = "RUN_STARTED"
    RUN_ENDED = "RUN_ENDED"
    """Another run began: nothing new belongs to this one, though what is under way is finished."""
    RUN_RETIRED = "RUN_RETIRED"
    """Its state was given up; the last report is named."""
    POLICY_ACTIVATED = "POLICY_ACTIVATED"
    KEY_ROTATED = "KEY_ROTATED"
    WORKER_HELD = "WORKER_HELD"
    EVIDENCE_READ = "EVIDENCE_READ"
    LETTER_ORDERED = "LETTER_ORDERED"
    """A dead letter was to be redriven or skipped."""
    QUARANTINE_REDRIVEN = "QUARANTINE_REDRIVEN"
    """A refused event was to go through the gate again."""


@dataclass(frozen=True)
class Event:
    """One governance event; `body` are the bytes of its evidence object."""

    platform_run_id: str
    event_id: str
    kind: Kind
    happened_at: datetime
    body: bytes


def record(
    connection: Connection,
    kind: Kind,
    *,
    subject: str,
    by: str,
    at: datetime,
    detail: Mapping[str, Any] | None = None,
    platform_run_id: str | None = None,
) -> str:
    """Write one event down; its id. The same deed told twice is one event.

    `platform_run_id` = the run it belongs to; None = the current one, and none at all before the first run. `detail` is
    kept as evidence for ever: names and digests, never a key, a DSN or a payload.
    """
    event_id = derived_id("governance", kind, subject, iso(at))
    connection.execute(
        "insert into control.governance (platform_run_id, event_id, kind, subject, done_by, happened_at, detail) values"
        " (coalesce(%s, (select platform_run_id from control.runs order by started_at desc, platform_run_id desc limit 1),"
        " ''), %s, %s, %s, %s, %s, %s) on conflict do nothing",
        (platform_run_id, event_id, str(kind), subject, by, at, Jsonb(dict(detail or {}))),
    )
    return event_id


def unwritten(connection: Connection) -> list[Event]:
    """The oldest events without an evidence object, the same bytes whenever they are asked for."""
    rows = connection.execute(
        "select platform_run_id, event_id, kind, subject, done_by, happened_at, detail from control.governance g"
        " where not exists (select from reporter.governance_objects o"
        "   where o.platform_run_id = g.platform_run_id and o.event_id = g.event_id)"
        " order by happened_at, event_id limit %s",
        (WRITTEN_AT_ONCE_MAX,),
    ).fetchall()
    return [_event(*row) for row in rows]


def settle(connection: Connection, event: Event, *, object_key: str, sha256: str, state: str) -> None:
    """Remember that an event's object is there (COMPLETE), or that another stands in its place (CONFLICT)."""
    connection.execute(
        "insert into reporter.governance_objects (platform_run_id, event_id, object_key, sha256, state)"
        " values (%s, %s, %s, %s, %s) on conflict do nothing",
        (event.platform_run_id, event.event_id, object_key, sha256, state),
    )


def _event(run: str, event_id: str, kind: str, subject: str, by: str, at: datetime, detail: Mapping[str, Any]) -> Event:
    body = canonical_json(
        {
            "platform_run_id": run,
            "event_id": event_id,
            "kind": kind,
            "subject": subject,
            "by": by,
            "at": iso(at),
            "detail": dict(detail),
        }
    )
    return Event(run, event_id, Kind(kind), at, body)
