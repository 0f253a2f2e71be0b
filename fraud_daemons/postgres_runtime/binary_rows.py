"""Rows in the form of a binary COPY, as bytes that can be made before the COPY begins, beside another one.

    bytes = beginning(7, text("traffic"), int4(0), text(run)) + int8(position) + …

The driver takes rows only inside a COPY, and sends them 32 KB at a time. It is no dearer a row: docs/PERFORMANCE.md has
both. Source of the form: PostgreSQL's manual, COPY, Binary Format.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Before the first row: the mark of the form, no flags, no further header."""
TRAILER: Final = b"\xff\xff"
"""Behind the last row."""

length: Final = Struct(">i").pack
"""What stands before the bytes of a field."""
_int4: Final = Struct(">ii").pack
_int8: Final = Struct(">iq").pack
_columns: Final = Struct(">h").pack
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def beginning(columns: int, *fields: bytes) -> bytes:
    """The beginning of rows of so many columns: their first fields."""
    return _columns(columns) + b"".join(fields)


def text(value: str) -> bytes:
    encoded = value.encode()
    return length(len(encoded)) + encoded


def int4(value: int) -> bytes:
    return _int4(4, value)


def int8(value: int) -> bytes:
    return _int8(8, value)


def timestamptz(value: datetime) -> bytes:
    return _int8(8, (value - _EPOCH) // _MICROSECOND)
