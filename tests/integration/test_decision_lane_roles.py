"""The decision lane under its own login roles: each worker reaches its tables and what READS grants, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import (
    READER_SCHEMAS,
    SERVICE_SCHEMAS,
    STATE_SCHEMAS,
    all_roles,
    provision,
    role_of,
)
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.worker import Worker
from fraud_daemons.workers.decision_lane import action_layer, decision_fabric, decision_log_audit
from tests.integration.lane import SIGNING_KEY, bind, flow, pin
from tests.line import Line

PASSWORD = "only-for-this-test"


@pytest.fixture
def roles(line: Line) -> Iterator[Line]:
    """The line's database with roles and grants."""
    schemas = ("bus", "control", *READER_SCHEMAS, *SERVICE_SCHEMAS, *STATE_SCHEMAS)
    provision(line.dsn, schemas=schemas, passwords=dict.fromkeys(all_roles(), PASSWORD), application_name="test")
    yield line
    close_thread_connections()


def as_role(line: Line, schema: str) -> str:
    """The line's DSN for the login role of a schema."""
    return make_conninfo(line.dsn, user=role_of(schema), password=PASSWORD)


def work_as_its_role(line: Line, worker: Worker) -> None:
    """Drain the worker on a connection of its own role."""
    dsn = as_role(line, worker.schema)
    database = Database(DsnSource(f"{worker.name} {dsn}", lambda: dsn), ConnectOptions(application_name=worker.name))
    settings = {"evidence.linger_seconds": 0.0, "actions.webhook_url": "http://127.0.0.1:9/"}
    context = replace(line.context_for(worker, settings=settings), database=database, bus=PostgresBus(database.scope))
    line.drain(worker.build(context))


def test_the_lane_works_under_its_own_roles(roles: Line) -> None:
    """Decisions, outcomes and closed chains come about with nothing but the grants of provisioning."""
    line = roles
    line.secrets = {"webhook": {"signing_key": SIGNING_KEY}}
    line.begin_run(live=False)
    pin(line, "NORMAL")
    amounts = (2_500, 600_000)
    line.append("flows.featured", bind(line, [flow(n, traffic={"amount_minor": amounts[n % 2]}) for n in range(10)]))
    for worker in (decision_fabric.WORKER, action_layer.WORKER, decision_log_audit.WORKER):
        work_as_its_role(line, worker)
    assert line.sql("select count(*) from df.decisions") == [(10,)]
    assert line.sql("select count(*) from al.outcomes") == [(10,)]
    assert line.sql("select count(*) from dla.chains where state = 'CLOSED'") == [(10,)]
    assert line.sql("select sum(records) from dla.segments where state = 'COMPLETE'") == [(10,)]


@pytest.mark.parametrize(
    ("schema", "statement"),
    [
        ("al", "select 1 from df.decisions"),
        ("dla", "update al.outcomes set status = 'EXECUTED'"),
        ("df", "insert into dl.postures (mode, reason, stepped_at) values ('NORMAL', 'no', now())"),
        (
            "df",
            "insert into control.posture_pins (mode, reason, pinned_by, pinned_at) values ('NORMAL', '', '', now())",
        ),
        ("df", "select 1 from label_store.assertions"),
    ],
)
def test_a_role_is_refused_what_is_not_its_own(roles: Line, schema: str, statement: str) -> None:
    """No worker reads or writes another's tables; the one that decides reaches no label."""
    with psycopg.connect(as_role(roles, schema)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
