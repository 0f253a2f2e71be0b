"""Workers under their own login roles: nothing but the grants of provisioning. The fixture `roles` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from psycopg.conninfo import make_conninfo

from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.postgres_runtime.provisioning import (
    READER_SCHEMAS,
    SERVICE_SCHEMAS,
    STATE_SCHEMAS,
    all_roles,
    provision,
    role_of,
)
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.worker import Worker
from tests.line import Line

PASSWORD = "only-for-this-test"
SCHEMAS = ("bus", "control", *READER_SCHEMAS, *SERVICE_SCHEMAS, *STATE_SCHEMAS)


def make_roles(line: Line) -> None:
    """Every role on the line's server, with the grants of this line's database."""
    provision(line.dsn, schemas=SCHEMAS, passwords=dict.fromkeys(all_roles(), PASSWORD), application_name="test")


def dsn_as(line: Line, role: str) -> str:
    """The line's DSN for a login role."""
    return make_conninfo(line.dsn, user=role, password=PASSWORD)


def database_as(line: Line, role: str) -> Database:
    """The line's database as a login role has it."""
    dsn = dsn_as(line, role)
    return Database(DsnSource(f"{role} {dsn}", lambda: dsn), ConnectOptions(application_name=role))


def built_as_its_role(line: Line, worker: Worker, *, settings: Mapping[str, Any] | None = None) -> list[Activity]:
    """The worker on connections of its own role."""
    database = database_as(line, role_of(worker.schema))
    context = line.context_for(worker, settings={"evidence.linger_seconds": 0.0, **(settings or {})})
    return list(worker.build(replace(context, database=database, bus=PostgresBus(database.scope))))


def work_as_its_role(line: Line, worker: Worker, *, settings: Mapping[str, Any] | None = None) -> None:
    """The same, until nothing is left."""
    line.drain(built_as_its_role(line, worker, settings=settings))
