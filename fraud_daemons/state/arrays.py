"""Rows in sets: a table named with its columns, and one statement that writes any number of rows to it.

Columns travel as binary arrays (0.13 ms for 450 values; as text 0.3 to 0.8 ms, and byte strings 190 ms). It refuses to
overwrite: a row whose key is there already is left as it is, which is what makes a repeated batch harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class Table:
    """A table by its qualified name, and its columns with their types in the order in which rows give them."""

    name: str
    columns: tuple[tuple[str, str], ...]

    @cached_property
    def insertion(self) -> bytes:
        """The statement, rendered once: the same bytes each time, so that the driver prepares it."""
        names = ", ".join(f'"{column}"' for column, _ in self.columns)
        arrays = ", ".join(f"%b::{kind}[]" for _, kind in self.columns)
        return f"insert into {self.name} ({names}) select * from unnest({arrays}) on conflict do nothing".encode()


def insert(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> int:
    """Write `rows` in one statement and return how many were new; nothing is sent for none."""
    if not rows:
        return 0
    return connection.execute(table.insertion, columns(rows)).rowcount


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned into one list per column, as `unnest` takes them."""
    return [list(column) for column in zip(*rows, strict=True)]
