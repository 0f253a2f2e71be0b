"""How far one worker has read, from its checkpoints."""

from __future__ import annotations

from fraud_daemons.postgres_runtime.connector import Connection


def positions_of(connection: Connection, worker: str) -> dict[tuple[str, int], int]:
    """The worker's checkpoints by topic and partition; empty before it ever ran. `connection` = to the server its state stands on."""
    rows = connection.execute(
        'select topic, "partition", "position" from checkpoints.positions where worker = %s', (worker,)
    )
    return {(topic, partition): position for topic, partition, position in rows}
