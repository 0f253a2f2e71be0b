"""What the gate's evidence objects hold: a receipt per admitted event, a record per refused one.

Rendered from the rows that were committed with the bus record, so the same range gives the same bytes at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fraud_daemons.bus.port import Record, TopicPartition
from fraud_daemons.clock import iso
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.errors import FatalFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.sealing import Entry
from fraud_daemons.state import admissions

RECEIPTS, QUARANTINE = "receipts", "quarantine"
RECEIPTS_FAMILY, QUARANTINE_FAMILY = "ig/receipts", "ig/quarantine"
RECEIPT_TOPICS = (*OUTPUTS, TRUTH)


def receipt_entries(connection: Connection, where: TopicPartition, position: int, limit: int) -> list[Entry]:
    """One receipt per record, by its place on the bus; a mark has one per partition it went to.

    Found by id beside the records, whose bodies are not read: at four events a transaction this is half of the gate.
    """
    stamp = lru_cache(maxsize=64)(iso)  # a batch shares one moment
    entries = []
    for at, run, event_id, receipt in admissions.receipts_from(
        connection, where.topic, where.partition, position=position, limit=limit
    ):
        if receipt is None:
            raise _without_row(f"{where.topic}/{where.partition}/{at}", "ig.admissions")
        event_type, payload_hash, producer, admitted_at = receipt
        value = {
            "event_id": event_id,
            "event_type": event_type,
            "payload_hash": payload_hash,
            "topic": where.topic,
            "partition": where.partition,
            "position": at,
            "producer": producer,
            "admitted_at": stamp(admitted_at),
        }
        entries.append(Entry(at, run, value))
    return entries


def render_quarantine(connection: Connection, records: Sequence[Record]) -> list[Any]:
    """One entry per refused event, with its original bytes."""
    run = records[0].platform_run_id  # the sealer renders one run at a time
    rows = admissions.quarantined(connection, run, [record.event_id for record in records])
    entries = []
    for record in records:
        row = rows.get(record.event_id)
        if row is None:
            raise _without_row(f"{record.topic}/{record.partition}/{record.position}", "ig.quarantine")
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


def _without_row(where: str, table: str) -> FatalFault:
    return FatalFault(
        f"{where} has no row in {table} though both commit together; somebody else wrote to the topic or the table",
        reason=f"evidence: {where} without a row in {table}",
    )
