"""The tables that every server has beside its state families - checkpoints, outbox, dead letters - are asked on each."""

from __future__ import annotations

from fraud_daemons.config.dsns import NAMES
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf


def every_server(at: ConnectionOf) -> list[Connection]:
    """One connection to each server that a DSN name leads to."""
    return list({id(connection): connection for connection in map(at, NAMES)}.values())
