"""COPY of a set of rows, and what its sender does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fraud_daemons.postgres_runtime.connector import Connection


@contextmanager
def copying(
    connection: Connection, statement: bytes, types: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Iterator[None]:
    """Send `rows` to a `copy … from stdin (format binary)`; its end is waited for behind the block, so that the server
    writes the rows while the block computes. Nothing is sent for no rows.

    What the server has against a row, a taken key for one, is raised behind the block; an error in the block cancels the COPY.
    """
    if not rows:
        yield
        return
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
        yield
