"""One worker's database: its DSN and session options bound together, so that a handler never sees either."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from fraud_daemons.postgres_runtime.connector import (
    Connection,
    ConnectOptions,
    DsnSource,
    Nested,
    listening_connection,
    postgres_threadlocal_connection,
)


@dataclass(frozen=True)
class Database:
    """Borrow connections of one DSN with one set of options."""

    source: DsnSource
    options: ConnectOptions

    def scope(self, *, nested: Nested = "refuse") -> AbstractContextManager[Connection]:
        """One transaction on this thread's connection."""
        return postgres_threadlocal_connection(self.source, self.options, nested=nested)

    def idle_connection(self) -> Connection | None:
        """This thread's connection between scopes, to wait on for notifications; None when there is none."""
        return listening_connection(self.source, self.options)
