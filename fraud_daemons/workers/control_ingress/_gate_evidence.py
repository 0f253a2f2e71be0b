"""What the gate's evidence objects hold: a receipt per admitted event (`_gate_receipts`), a record per refused one.

Rendered from the rows that were committed with the bus record, so the same range gives the same bytes at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from fraud_daemons.bus.port import Record
from fraud_daemons.clock import iso
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.state import admissions
from fraud_daemons.workers.control_ingress._gate_receipts import without_row

RECEIPTS, QUARANTINE = "receipts", "quarantine"
RECEIPTS_FAMILY, QUARANTINE_FAMILY = "ig/receipts", "ig/quarantine"
RECEIPT_TOPICS = (*OUTPUTS, TRUTH)


def render_quarantine(connection: Connection, records: Sequence[Record]) -> list[Any]:
    """One entry per refused event, with its original bytes."""
    run = records[0].platform_run_id  # the sealer renders one run at a time
    rows = admissions.quarantined(connection, run, [record.event_id for record in records])
    entries = []
    for record in records:
        row = rows.get(record.event_id)
        if row is None:
            raise without_row(f"{record.topic}/{record.partition}/{record.position}", "ig.quarantine")
        entries.append(
            {
                "quarantine_id": row.quarantine_id,
                "event_id": row.event_id,
                "event_type": row.event_type,
                "reason": row.reason,
                "detail": row.detail,
                "producer": row.producer,
                "payload_sha256": row.payload_sha256,
                "quarantined_at": iso(row.quarantined_at),
                "position": record.position,
                **_original(row.body),
            }
        )
    return entries


def _original(body: bytes) -> dict[str, str]:
    """The bytes as they came: as text where they are text, else as base64."""
    try:
        return {"body": bytes(body).decode("utf-8")}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}
