"""Rows in sets: a table named with its columns, and one COPY that writes any number of rows to it.

COPY writes a batch of rows in half the time of an insert from arrays, but it knows no `on conflict`: it is for rows of
which the transaction has just read that their key is free. Should the key be taken all the same, another copy of the
worker wrote it; then the step fails, and its checkpoint says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    def copy_statement(self) -> bytes:
        names = ", ".join(f'"{column}"' for column, _ in self.columns)
        return f"copy {self.name} ({names}) from stdin (format binary)".encode()

    @cached_property
    def types(self) -> list[str]:
        return [kind for _, kind in self.columns]


def copy_in(connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> int:
    """Write `rows` in one statement and return how many there were; nothing is sent for none."""
    rows = list(rows)
    if rows:
        with connection.cursor() as cursor, cursor.copy(table.copy_statement) as copy:
            copy.set_types(table.types)
            for row in rows:
                copy.write_row(row)
    return len(rows)


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned into one list per column, as `unnest` takes them.

    Write such parameters as `%b`: binary arrays of 450 values take 0.1 ms, as text 0.3 to 0.8 ms and byte strings 190 ms.
    """
    return [list(column) for column in zip(*rows, strict=True)]
