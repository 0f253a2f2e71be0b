"""Dead letters: poison set aside with its reason, in the same transaction as the step past it."""

from __future__ import annotations

from datetime import datetime

from fraud_daemons.bus.port import Record
from fraud_daemons.postgres_runtime.connector import Connection


def bury(connection: Connection, *, worker: str, record: Record, reason: str, detail: str, at: datetime) -> None:
    """Set `record` aside for `worker`. The same letter twice is one letter."""
    connection.execute(
        'insert into dead_letters.letters (worker, topic, "partition", "position", platform_run_id, event_id, record_key,'
        " reason, detail, body, dead_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        (
            worker,
            record.topic,
            record.partition,
            record.position,
            record.platform_run_id,
            record.event_id,
            record.key,
            _storable(reason)[:200],
            _storable(detail)[:2000],
            record.body,
            at,
        ),
    )


def _storable(text: str) -> str:
    """PostgreSQL's text knows no NUL, and a record may be poison for just that."""
    return text.replace("\0", "\\0")
