"""State, evidence and checkpoints are kept apart by the servers themselves: a role writes its own tables and no others, the
checkpoint tables hold nothing but progress, and what was refused is read by the gate and the operator alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest

from fraud_daemons.checkpoints.sqlite_sidecar import SqliteCheckpoints
from fraud_daemons.postgres_runtime.provisioning import SERVICE_SCHEMAS, STATE_SCHEMAS, all_roles
from tests.line import Line
from tests.own_roles import SCHEMAS, dsn_as, make_roles

GIVEN = {"fp_reporter": {"control.governance", "control.retired_runs"}}
"""Single tables of another's that a role may add to: the reporter sees which worker is held, and which run was proved whole."""


@pytest.fixture
def upgraded(roles: Line) -> Line:
    """The line's database as `platform up` leaves it, after a version that granted more."""
    roles.sql("grant insert, update, delete on all tables in schema df to fp_console")
    make_roles(roles)
    return roles


def writable(line: Line) -> dict[str, set[str]]:
    """Role -> every table it may insert into, update or delete from."""
    rows = line.sql(
        "select r.rolname, n.nspname || '.' || c.relname from pg_roles r cross join pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace where r.rolname like 'fp\\_%%' and not r.rolsuper"
        " and r.rolname = any(%s) and c.relkind in ('r', 'p') and n.nspname = any(%s)"
        " and has_table_privilege(r.oid, c.oid, 'insert, update, delete, truncate')",
        (list(all_roles()), list(SCHEMAS)),
    )
    found: dict[str, set[str]] = {role: set() for role in all_roles()}
    for role, table in rows:
        found[role].add(table)
    return found


def test_a_role_writes_its_own_tables_and_no_others(upgraded: Line) -> None:
    """Of another component's tables none may be written; who only looks writes nothing at all but a schema of its own."""
    for role, tables in writable(upgraded).items():
        own = role.removeprefix("fp_")
        tables -= GIVEN.get(role, set())
        schemas = {table.partition(".")[0] for table in tables}
        allowed = {
            "fp_bus": {"bus"},
            "fp_operator": {"bus", "control", "dead_letters"},
            "fp_console": {"console"},
            "fp_conformance": {"conformance"},
        }.get(role, {own, "bus", *SERVICE_SCHEMAS})
        assert schemas <= allowed, f"{role} may write {sorted(schemas - allowed)}"
        if own in STATE_SCHEMAS:
            assert own in schemas, f"{role} may not write its own tables"


def test_the_bus_is_appended_to_and_never_changed(roles: Line) -> None:
    """No login role may update or delete a record of the bus but the one that trims it."""
    rows = roles.sql(
        "select r.rolname from pg_roles r where r.rolname = any(%s)"
        " and has_table_privilege(r.oid, 'bus.log', 'update, truncate')",
        (list(all_roles()),),
    )
    assert rows == []


@pytest.mark.parametrize("role", ["fp_console", "fp_conformance", "fp_reporter", "fp_df"])
def test_the_bytes_of_what_was_refused_are_not_for_everybody(roles: Line, role: str) -> None:
    """They may hold anything: the gate and the operator read them, readers see the rest of the row, others nothing."""
    with psycopg.connect(dsn_as(roles, role), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select body from ig.quarantine")
        if role == "fp_df":
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select reason from ig.quarantine")
        else:
            connection.execute("select reason, quarantine_id from ig.quarantine")
    with psycopg.connect(dsn_as(roles, "fp_operator")) as connection:
        connection.execute("select body from ig.quarantine")


PROGRESS = {"worker", "topic", "partition", "position", "epoch"}


def test_checkpoints_hold_nothing_but_progress(line: Line, short_dir: Path) -> None:
    """Who reads what, up to where, and under which claim - in PostgreSQL and in the sidecar alike."""
    columns = "select table_name, column_name from information_schema.columns where table_schema = 'checkpoints'"
    assert {(table, column) for table, column in line.sql(columns)} == {("positions", column) for column in PROGRESS}
    file = short_dir / "consumer_checkpoints.sqlite"
    checkpoints = SqliteCheckpoints(file)
    checkpoints.claim("test", [("traffic", 0)])
    with sqlite3.connect(file) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        found = {column[1] for table in tables for column in connection.execute(f"pragma table_info({table})")}
    assert found == PROGRESS
