"""The decision lane under its own login roles: each worker reaches its tables and what READS grants, and no more."""

from __future__ import annotations

import psycopg
import pytest

from fraud_daemons.postgres_runtime.provisioning import role_of
from fraud_daemons.workers.decision_lane import action_layer, decision_fabric, decision_log_audit
from tests.integration.lane import SIGNING_KEY, bind, flow, pin
from tests.line import Line
from tests.own_roles import dsn_as, work_as_its_role

SETTINGS = {"actions.webhook_url": "http://127.0.0.1:9/"}


def test_the_lane_works_under_its_own_roles(roles: Line) -> None:
    """Decisions, outcomes and closed chains come about with nothing but the grants of provisioning."""
    line = roles
    line.secrets = {"webhook": {"signing_key": SIGNING_KEY}}
    line.begin_run(live=False)
    pin(line, "NORMAL")
    amounts = (2_500, 600_000)
    line.append("flows.featured", bind(line, [flow(n, traffic={"amount_minor": amounts[n % 2]}) for n in range(10)]))
    for worker in (decision_fabric.WORKER, action_layer.WORKER, decision_log_audit.WORKER):
        work_as_its_role(line, worker, settings=SETTINGS)
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
    with (
        psycopg.connect(dsn_as(roles, role_of(schema))) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)
