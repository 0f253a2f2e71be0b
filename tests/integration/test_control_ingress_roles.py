"""Gate, producer and operator under their own login roles: nothing but the grants of provisioning."""

from __future__ import annotations

from pathlib import Path

import orjson

from fraud_daemons.postgres_runtime.provisioning import OPERATOR
from fraud_daemons.state import runs, stream_requests
from fraud_daemons.workers.control_ingress import ingestion_gate, world_stream_producer
from fraud_daemons.worlds.generator import make_world
from tests.gate import CLIENT_KEY, Gate, prepare
from tests.line import Line
from tests.own_roles import built_as_its_role, database_as
from tests.producing import OTHER_WORKERS, work_until_ended, write_beat


def test_ingress_works_under_its_own_roles(roles: Line, short_dir: Path) -> None:
    """Operator asks, producer streams, gate admits, quarantines, seals and answers, each as its own role."""
    line = roles
    prepare(line)
    for worker in OTHER_WORKERS:
        write_beat(short_dir, worker)
    make_world(short_dir / "worlds", name="tiny", transactions=60, seed=7, currency="USD")
    operator = database_as(line, OPERATOR)
    with operator.scope() as connection:
        run = runs.begin(connection, at=line.clock.now().replace(year=2027), live=True, note="")
        request = stream_requests.make(
            connection, platform_run_id=run.platform_run_id, world="tiny", max_events_per_output=20, rate=None,
            speedup=None, origin="cursor", at=line.clock.now(),
        )  # fmt: skip
    line.append("control", [request.record])
    gate = built_as_its_role(line, ingestion_gate.WORKER)
    gate[0].step()
    try:
        work_until_ended(line, built_as_its_role(line, world_stream_producer.WORKER))
        client = Gate(line.ports["gate"], gate, None, key=CLIENT_KEY)
        assert client.post([{"event_type": "weather"}]).statuses == ["QUARANTINED"]
        transaction = {"flow_id": "f", "occurred_at": "2026-02-10T09:19:51Z", "amount_minor": 5, "currency": "USD"}
        answer = client.request("POST", "/v1/transactions", orjson.dumps(transaction))
        assert answer.status == 202
        assert client.request("GET", f"/v1/decisions/{answer.body['decision_id']}?wait_ms=20").status == 404
        line.drain(gate[1:], advance_seconds=2.0)
    finally:
        gate[0].close()
    assert line.sql("select count(*) from ig.admissions where event_type <> 'progress_mark'")[0][0] >= 84
    assert line.sql("select count(*) from ig.segments where state = 'COMPLETE' and family = 'ig/quarantine'") == [(1,)]
