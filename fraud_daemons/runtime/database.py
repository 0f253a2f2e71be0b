"""One worker's database: its DSN and session options bound together, so that a handler never sees either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from fraud_daemons.postgres_runtime.connector import (
    Connection,
    ConnectionOf,
    ConnectOptions,
    DsnSource,
    Nested,
    listening_connection,
    postgres_threadlocal_connection,
)


class Borrow(Protocol):
    """A connector: one transaction on a connection to `source`."""

    def __call__(
        self, source: DsnSource, options: ConnectOptions | None = None, *, nested: Nested = "refuse"
    ) -> AbstractContextManager[Connection]: ...


@dataclass(frozen=True)
class Database:
    """Borrow connections of one DSN with one set of options."""

    source: DsnSource
    options: ConnectOptions
    borrow: Borrow = postgres_threadlocal_connection
    """How a connection is come by: shared, but for the drill that shows what happens otherwise."""

    def scope(self, *, nested: Nested = "refuse") -> AbstractContextManager[Connection]:
        """One transaction on this thread's connection."""
        return self.borrow(self.source, self.options, nested=nested)

    def idle_connection(self) -> Connection | None:
        """This thread's connection between scopes, to wait on for notifications; None when there is none."""
        return listening_connection(self.source, self.options)


DatabaseOf = Callable[[str], Database]
"""A database by DSN name."""

Beside = Callable[[Connection], AbstractContextManager[ConnectionOf]]
"""Connections by DSN name while the worker's own is open; see `WorkerContext.beside`."""


@contextmanager
def connections(
    database_of: DatabaseOf, open_already: Mapping[str, Connection] | None = None
) -> Iterator[ConnectionOf]:
    """Connections by DSN name: each server's is borrowed when first asked for, one transaction each, all ended together.

    `open_already` = the caller's own by source name. For short reads over several components' tables. Not one transaction: what it reads may be moments apart.
    """
    with ExitStack() as stack:
        borrowed = dict(open_already or {})

        def connection_of(name: str) -> Connection:
            database = database_of(name)
            where = database.source.name
            if where not in borrowed:
                borrowed[where] = stack.enter_context(database.scope())
            return borrowed[where]

        yield connection_of
