"""What the gate knows of one event: its admissions, and which segment holds the receipt; what it refused, by reason."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.admissions import OF_RUN

_SQL = "fraud_daemons.state.sql"


def admissions_of(connection: Connection, platform_run_id: str, event_id: str) -> list[dict[str, Any]]:
    """The admissions of an event id, one per event type (an id is derived per type, so there is one as a rule)."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            'select event_type, event_id, payload_hash, producer, topic, "partition", "position", admitted_at'
            " from ig.admissions where event_id::uuid = case when %(id)s::text ~ '^[0-9a-f]{32}$' then %(id)s::text::uuid end"
            f" and {OF_RUN} and event_type = any(%(types)s)",
            {"run": platform_run_id, "types": list(EVENT_TYPES), "id": event_id},
        )
        return cursor.fetchall()


def segment_of(
    connection: Connection, platform_run_id: str, *, topic: str, partition: int, position: int
) -> dict[str, Any] | None:
    """The segment of receipts that holds a place of the bus; None while it waits to be sealed."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "select object_key, sha256, state from ig.segments where platform_run_id = %s and family = 'ig/receipts'"
            ' and topic = %s and "partition" = %s and first_position <= %s and last_position >= %s',
            (platform_run_id, topic, partition, position, position),
        )
        return cursor.fetchone()


def quarantined(
    connection: Connection,
    platform_run_id: str,
    *,
    reason: str | None,
    event_type: str | None = None,
    redriven: bool | None = None,
    after: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """A page of what was refused, by quarantine id, behind `after`. `platform_run_id` = "" for what names no run;
    `redriven` = only what went through later (True) or did not (False)."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            load(_SQL, "receipts_quarantined.sql"),
            {
                "run": platform_run_id,
                "reason": reason,
                "event_type": event_type,
                "redriven": redriven,
                "after": after,
                "limit": limit,
            },
        )
        return cursor.fetchall()


def quarantine_row(connection: Connection, quarantine_id: str) -> dict[str, Any] | None:
    """One refusal with its original bytes, whatever run it named."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "select platform_run_id, quarantine_id, event_id, event_type, reason, detail, producer, payload_sha256, body,"
            " seen, quarantined_at from ig.quarantine where quarantine_id = %s",
            (quarantine_id,),
        )
        return cursor.fetchone()
