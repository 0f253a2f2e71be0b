"""Requests to stream a world, as operators make them: control.streams. The producer keeps its own side in wsp.streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from fraud_daemons.clock import iso
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class StreamRequest:
    """One request: `record` is the body of its STREAM_READY message."""

    stream_id: str
    platform_run_id: str
    record: Mapping[str, Any]


def make(
    connection: Connection,
    *,
    platform_run_id: str,
    world: str,
    max_events_per_output: int | None,
    rate: float | None,
    speedup: float | None,
    origin: str,
    at: datetime,
) -> StreamRequest:
    """Write a request down; its id comes from its ordinal in the run. `origin` is "cursor" or "start"."""
    # the lock makes two requests at once take two ordinals
    connection.execute("select 1 from control.runs where platform_run_id = %s for update", (platform_run_id,))
    row = connection.execute(
        "select coalesce(max(ordinal), 0) + 1 from control.streams where platform_run_id = %s", (platform_run_id,)
    ).fetchone()
    ordinal = int(row[0]) if row else 1
    stream_id = derived_id("stream", platform_run_id, world, ordinal)
    record: dict[str, Any] = {
        "kind": "STREAM_READY",
        "stream_id": stream_id,
        "ordinal": ordinal,
        "platform_run_id": platform_run_id,
        "world": world,
        "max_events_per_output": max_events_per_output,
        "rate": rate,
        "speedup": speedup,
        "from": origin,
        "requested_at": iso(at),
    }
    connection.execute(
        "insert into control.streams (stream_id, platform_run_id, ordinal, world, request, requested_at)"
        " values (%s, %s, %s, %s, %s, %s)",
        (stream_id, platform_run_id, ordinal, world, Jsonb(record), at),
    )
    return StreamRequest(stream_id, platform_run_id, record)
