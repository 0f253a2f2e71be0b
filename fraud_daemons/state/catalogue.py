"""What a database really holds - columns, indexes, constraints - and what it held right after it was migrated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"


def catalogue(connection: Connection, schemas: Sequence[str]) -> dict[str, str]:
    """`kind schema.table.name` -> definition, of everything that migrations make in `schemas`."""
    rows = connection.execute(load(_SQL, "catalogue_objects.sql"), {"schemas": list(schemas)})
    return dict(rows.fetchall())


def head(connection: Connection) -> str:
    """A digest of the migrations that a server has had."""
    rows = connection.execute("select migration_id from public._yoyo_migration order by 1").fetchall()
    return hashlib.sha256("\n".join(row[0] for row in rows).encode()).hexdigest()


def keep(connection: Connection, server: str, *, head: str, objects: Mapping[str, str]) -> bool:
    """Note what `server` looks like at `head`; what was noted at the same head stays. True when it was noted now."""
    found = connection.execute("select head from conformance.heads where server = %s", (server,)).fetchone()
    if found is not None and found[0] == head:
        return False
    connection.execute("delete from conformance.catalogue where server = %s", (server,))
    connection.execute(
        "insert into conformance.catalogue (server, object, definition) select %s, * from unnest(%s::text[], %s::text[])",
        (server, list(objects), list(objects.values())),
    )
    connection.execute(
        "insert into conformance.heads (server, head) values (%s, %s) on conflict (server) do update set head = excluded.head",
        (server, head),
    )
    return True


def kept(connection: Connection, server: str) -> dict[str, str]:
    """What `server` looked like when it was migrated; {} when nobody noted it."""
    rows = connection.execute("select object, definition from conformance.catalogue where server = %s", (server,))
    return dict(rows.fetchall())
