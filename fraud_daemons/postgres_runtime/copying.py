"""COPY of rows that are encoded already, and what their sender does meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fraud_daemons.postgres_runtime.binary_rows import SIGNATURE, TRAILER
from fraud_daemons.postgres_runtime.connector import Connection


@contextmanager
def copying(connection: Connection, statement: bytes, parts: Iterable[bytes]) -> Iterator[None]:
    """Send rows, as `binary_rows` makes them, to a `copy … from stdin (format binary)`. An iterator makes the next part while
    the server has the one before, and the end is waited for behind the block, so that the server writes while it computes.

    What the server has against a row, a taken key for one, is raised behind the block; an error of the iterator or in the
    block cancels the COPY.
    """
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(SIGNATURE)
        for part in parts:
            copy.write(part)
        copy.write(TRAILER)
        yield
