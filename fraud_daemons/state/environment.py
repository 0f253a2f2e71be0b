"""What a PostgreSQL server says of itself: version, settings, clock, place, rights, topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class ServerFacts:
    """One look at a server. `epoch_seconds` = its clock."""

    version: str
    epoch_seconds: float
    settings: Mapping[str, str]


def server_facts(connection: Connection) -> ServerFacts:
    """Version, clock, and the settings that durability rests on, as they hold for this session."""
    row = connection.execute(
        "select current_setting('server_version'), extract(epoch from clock_timestamp())::float8,"
        " current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')"
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without from gives a row
    return ServerFacts(
        row[0], row[1], dict(zip(("fsync", "synchronous_commit", "full_page_writes"), row[2:], strict=True))
    )


def place(connection: Connection) -> str:
    """Which database this is, told by the server itself: two DSNs that read alike may lead to two servers."""
    row = connection.execute(
        "select (select system_identifier from pg_control_system())::text || '/' || current_database()"
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without from gives a row
    return str(row[0])


def rights_lacking(connection: Connection, schema_of: Mapping[str, str]) -> list[str]:
    """Roles that do not exist or may not write a table of their schema, each once."""
    rows = connection.execute(
        "select r.role || case when p.rolname is null then ' does not exist' else ' may not write ' || min(t.tablename) end"
        " from unnest(%s::text[], %s::text[]) r(role, schema)"
        " left join pg_roles p on p.rolname = r.role"
        " left join pg_tables t on t.schemaname = r.schema"
        " where case when p.rolname is null then true when t.tablename is null then false"  # in this order: it must exist
        "   else not (has_schema_privilege(p.rolname, r.schema, 'usage')"
        "     and has_table_privilege(p.rolname, format('%%I.%%I', r.schema, t.tablename), 'insert')) end"
        " group by r.role, p.rolname order by 1",
        (list(schema_of), list(schema_of.values())),
    )
    return [row[0] for row in rows]


def partitions(connection: Connection) -> dict[str, int]:
    """Partitions of each topic."""
    rows = connection.execute("select topic, count(*) from bus.heads group by topic")
    return dict(rows.fetchall())


def sessions_opened(connection: Connection) -> int:
    """Sessions that clients ever opened to this database, as the server itself counts them (`pg_stat_database`)."""
    row = connection.execute(
        "select sessions::bigint from pg_stat_database where datname = current_database()"
    ).fetchone()
    return int(row[0]) if row else 0
