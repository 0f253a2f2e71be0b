"""Brings a server to what the code expects: database, schemas, login roles, migrations, grants.

Applied by `platform up`, before any worker. A database that knows a migration which this code does not is newer than
the code and is refused: going on would write rows the newer code does not expect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.errors import FatalFault
from fraud_daemons.postgres_runtime.connector import (
    Connection,
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    postgres_threadlocal_connection,
)
from fraud_daemons.postgres_runtime.faults import fault_from, judge

MIGRATIONS = Path(__file__).parent / "migrations"

SERVICE_SCHEMAS = ("checkpoints", "outbox", "dead_letters")
"""Schemas that stand beside every state family, on each server that holds one."""

STATE_SCHEMAS = (
    "ig",
    "wsp",
    "csfb",
    "ofp",
    "dl",
    "df",
    "al",
    "dla",
    "case_trigger",
    "case_mgmt",
    "label_store",
    "ieg",
    "archive",
)
READER_SCHEMAS = ("reporter", "conformance", "console")
"""Schemas of those who watch: their role reads every table and writes only its own schema."""

READS = {
    "ig": ("df.decisions", "checkpoints.positions"),
    "df": ("dl.postures", "ieg.versions", "dead_letters.letters"),
    "dl": ("checkpoints.positions",),
    "label_store": ("df.decisions",),
    "archive": ("checkpoints.positions", "ig.segments", "dla.segments"),
}
"""Tables of another component that a component may read: the gate answers GET /v1/decisions and looks how far the stages behind it have read; a decision is made under
the posture of the degrade ladder, names the version of the entity graph, and also for a record that the feature plane set aside, wherever that plane's letters are; the degrade
ladder looks how far the stages before a decision have read; the archive trims the bus behind every reader and every sealer; a label asserted by
command must be about a flow that was decided."""

TRIMMER = "fp_archive"
"""The one role that may delete records of the bus, and only these."""

OPERATOR, REPORTER = "fp_operator", "fp_reporter"
READERS = (OPERATOR, REPORTER, "fp_conformance", "fp_console")
OBSERVERS = ("fp_conformance", "fp_console")
"""Readers that consume nothing and publish nothing: no progress, no letters, no records are theirs."""
HANDS_OFF = ("checkpoints", "outbox")
"""What a command never writes: progress belongs to the worker that makes it."""
QUARANTINE_SEEN = (
    "platform_run_id", "quarantine_id", "event_id", "event_type", "reason", "detail", "producer", "payload_sha256", "seen",
    "quarantined_at",
)  # fmt: skip
"""What all readers see of a refused event. Its original bytes may hold anything: the gate has them, and the operator."""
PROVISIONING_LOCK = 0x66726175  # advisory lock: one `up` at a time changes schemas, roles and grants


def role_of(schema: str) -> str:
    """Login role of a component's schema."""
    return f"fp_{schema}"


def all_roles() -> tuple[str, ...]:
    """Every login role that is created with a generated password."""
    return (*(role_of(schema) for schema in (*STATE_SCHEMAS, "bus")), *READERS)


@dataclass(frozen=True)
class Provisioned:
    """What was done: the database made or found, and the migrations applied now."""

    database_created: bool
    migrations_applied: tuple[str, ...]


def ensure_database(admin_dsn: str, name: str) -> bool:
    """Create database `name` when it is missing; True when it was created now."""
    with psycopg.connect(admin_dsn, autocommit=True, connect_timeout=5) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
            return False
        connection.execute(
            sql.SQL("create database {} template template0 encoding 'UTF8'").format(sql.Identifier(name))
        )
        return True


def provision(
    owner_dsn: str, *, schemas: Sequence[str], passwords: Mapping[str, str] | None, application_name: str
) -> tuple[str, ...]:
    """Schemas, migrations, roles and grants on one server; returns the migrations applied now.

    `passwords` (role -> password) creates login roles; None leaves roles alone (an external server's DSN is used as
    given). Raises FatalFault when the database is newer than the code.
    """
    source = DsnSource("owner", lambda: owner_dsn)
    options = ConnectOptions(
        application_name=application_name,
        statement_timeout=300,
        client_deadline=330,
        lock_timeout=60,
        idle_in_transaction=300,
    )
    with postgres_threadlocal_connection(source, options) as connection:
        for schema in schemas:
            connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    with postgres_threadlocal_connection(source, options) as connection:
        # our lock, not the tool's: its lock is a row, which a killed `up` would leave behind for ever
        connection.execute("select pg_advisory_xact_lock(%s)", (PROVISIONING_LOCK,))
        applied = _migrate(owner_dsn, schemas)
        if passwords is not None:
            _create_roles(connection, passwords)
            _grant(connection, schemas, roles=tuple(passwords))
    close_thread_connections()
    return applied


def pending_migrations(connection: Connection, *, schemas: Sequence[str]) -> tuple[str, ...]:
    """Migrations that the database lacks; changes nothing. Raises FatalFault when it is newer than the code."""
    # the tool itself would make its tables before it answers
    begun = connection.execute("select to_regclass('_yoyo_migration') is not null").fetchone()
    applied = set()
    if begun and begun[0]:
        applied = {row[0] for row in connection.execute("select migration_id from _yoyo_migration").fetchall()}
    _refuse_newer(applied)
    wanted = [path.stem for schema in schemas for path in sorted((MIGRATIONS / schema).glob("*.sql"))]
    return tuple(name for name in wanted if name not in applied)


def _migrate(owner_dsn: str, schemas: Sequence[str]) -> tuple[str, ...]:
    with _migrator(owner_dsn, schemas) as (backend, migrations):
        wanted = backend.to_apply(migrations)
        backend.apply_migrations(wanted)
        return tuple(migration.id for migration in wanted)


@contextmanager
def _migrator(owner_dsn: str, schemas: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """The migration tool on its own connection, and the migrations of `schemas`; refuses a newer database."""
    from yoyo import get_backend, read_migrations  # only `up` migrates

    backend = get_backend(_yoyo_url(owner_dsn))
    try:
        backend.ensure_internal_schema_updated()
        _refuse_newer(_applied_ids(backend))
        yield (
            backend,
            read_migrations(*(str(MIGRATIONS / schema) for schema in schemas if (MIGRATIONS / schema).is_dir())),
        )
    except psycopg.Error as error:  # the tool lets the driver's errors through
        verdict = judge(error, broken=backend.connection.closed)
        raise fault_from(error, verdict) or error from error
    finally:
        backend.connection.close()


def _refuse_newer(applied: set[str]) -> None:
    known = {path.stem for path in MIGRATIONS.glob("*/*.sql")}
    newer = sorted(applied - known)
    if newer:
        raise FatalFault(
            f"the database is newer than this code: it has migrations {', '.join(newer)}; start the version that made it,"
            " or restore a backup from before",
            reason=f"config: database newer than the code ({newer[0]})",
        )


def _applied_ids(backend: Any) -> set[str]:
    cursor = backend.execute("select migration_id from _yoyo_migration")
    return {row[0] for row in cursor.fetchall()}


def _yoyo_url(dsn: str) -> str:
    """A libpq connection string as the URL that yoyo reads."""
    parts = conninfo_to_dict(dsn)
    user, password = quote(str(parts.get("user", "")), safe=""), quote(str(parts.get("password") or ""), safe="")
    host, port = str(parts.get("host") or ""), parts.get("port")
    name = quote(str(parts.get("dbname", "")), safe="")
    if host.startswith("/"):
        query = f"?host={quote(host, safe='')}" + (f"&port={port}" if port else "")
        return f"postgresql+psycopg://{user}:{password}@/{name}{query}"
    return f"postgresql+psycopg://{user}:{password}@{host}{f':{port}' if port else ''}/{name}"


def _create_roles(connection: Connection, passwords: Mapping[str, str]) -> None:
    known = {
        row[0] for row in connection.execute("select rolname from pg_roles where rolname = any(%s)", (list(passwords),))
    }
    for role, password in passwords.items():
        verb = sql.SQL("alter") if role in known else sql.SQL("create")
        connection.execute(
            sql.SQL("{} role {} login password {}").format(verb, sql.Identifier(role), sql.Literal(password))
        )


def _grant(connection: Connection, schemas: Sequence[str], *, roles: Sequence[str]) -> None:
    """Each component: its own schema, and on its server progress, outbox, letters and the bus; readers read all. What
    a component may read of others it may read on whatever server that stands."""

    def run(statement: str, **names: str) -> None:
        connection.execute(sql.SQL(statement).format(**{k: sql.Identifier(v) for k, v in names.items()}))

    _revoke_all(connection, schemas, roles)
    components = [schema for schema in STATE_SCHEMAS if schema in schemas]
    service = [schema for schema in SERVICE_SCHEMAS if schema in schemas]
    for component in components:
        run("grant usage on schema {s} to {r}", s=component, r=role_of(component))
        run(
            "grant select, insert, update, delete on all tables in schema {s} to {r}", s=component, r=role_of(component)
        )
        run("grant usage on all sequences in schema {s} to {r}", s=component, r=role_of(component))
    for component, tables in READS.items():
        for table in tables if role_of(component) in roles else ():
            schema, _, name = table.partition(".")
            if schema in schemas:
                run("grant usage on schema {s} to {r}", s=schema, r=role_of(component))
                run("grant select on {s}.{t} to {r}", s=schema, t=name, r=role_of(component))
    members = [*(role_of(c) for c in components), *READERS]
    for role in members:
        rights = "select" if role in OBSERVERS else "select, insert, update, delete"
        for schema in service:
            run("grant usage on schema {s} to {r}", s=schema, r=role)
            of_role = "select" if role == OPERATOR and schema in HANDS_OFF else rights
            run(f"grant {of_role} on all tables in schema {{s}} to {{r}}", s=schema, r=role)
    for role in (*members, role_of("bus")):
        if "bus" in schemas and role not in OBSERVERS:
            run("grant usage on schema bus to {r}", r=role)
            run("grant select, insert on bus.log to {r}", r=role)
            run("grant select, update on bus.heads to {r}", r=role)
            run("grant select, insert, update on bus.producers to {r}", r=role)
            run("grant select on bus.beginnings, bus.trimmed to {r}", r=role)
    if "bus" in schemas and TRIMMER in {*members, *roles}:
        run("grant usage on schema bus to {r}", r=TRIMMER)
        run("grant select, delete on bus.log to {r}", r=TRIMMER)
        run("grant select on bus.heads, bus.subscribers to {r}", r=TRIMMER)
        run("grant select, insert, update on bus.beginnings, bus.trimmed to {r}", r=TRIMMER)
    everybody = {*members, *(role_of(schema) for schema in STATE_SCHEMAS if role_of(schema) in roles)}
    for role in sorted(everybody) if "control" in schemas else ():
        run("grant usage on schema control to {r}", r=role)
        run("grant select on all tables in schema control to {r}", r=role)
    for reader in READERS:
        run("grant select on public._yoyo_migration to {r}", r=reader)
        for schema in schemas:
            run("grant usage on schema {s} to {r}", s=schema, r=reader)
            run("grant select on all tables in schema {s} to {r}", s=schema, r=reader)
        if "ig" in schemas and reader != OPERATOR:
            run("revoke select on ig.quarantine from {r}", r=reader)
            run(f"grant select ({', '.join(QUARANTINE_SEEN)}) on ig.quarantine to {{r}}", r=reader)
        if _may_pass_on(connection, "pg_read_all_stats"):  # somebody else's server: then only its own sessions are seen
            run("grant pg_read_all_stats to {r}", r=reader)
    if "control" in schemas:
        run("grant insert, update on all tables in schema control to {r}", r=OPERATOR)
        run("revoke update on control.governance from {r}", r=OPERATOR)
        run("grant insert on control.governance to {r}", r=REPORTER)  # it sees workers that are held
        run("grant insert on control.retired_runs to {r}", r=REPORTER)
        run("revoke insert, update on control.retired_runs from {r}", r=OPERATOR)
    for own in (schema for schema in READER_SCHEMAS if schema in schemas):
        run("grant select, insert, update, delete on all tables in schema {s} to {r}", s=own, r=role_of(own))


def _revoke_all(connection: Connection, schemas: Sequence[str], roles: Sequence[str]) -> None:
    """What an earlier version granted and this one does not must not stay; the grants follow in the same transaction."""
    known = connection.execute("select rolname from pg_roles where rolname = any(%s)", (list(roles),)).fetchall()
    statement = "revoke all on all tables in schema {} from {}"
    names = (
        sql.SQL(", ").join(map(sql.Identifier, schemas)),
        sql.SQL(", ").join(sql.Identifier(row[0]) for row in known),
    )
    connection.execute(sql.SQL(statement).format(*names))


def _may_pass_on(connection: Connection, role: str) -> bool:
    """Whether the owner may grant a predefined role; a superuser always may."""
    found = connection.execute(
        "select rolsuper or pg_has_role(oid, %s, 'MEMBER WITH ADMIN OPTION') from pg_roles where rolname = current_user",
        (role,),
    ).fetchone()
    return bool(found and found[0])


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return make_conninfo(dsn, dbname=name)
