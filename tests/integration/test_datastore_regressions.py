"""The regression names of the datastore incident: each a short story on a real PostgreSQL.

In the incident, workers lost their place or did their work twice when the database went away in the middle of a batch.
"""

from __future__ import annotations

import pytest

from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import counters
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.workers.case_labels import case_trigger
from fraud_daemons.workers.decision_lane import action_layer, decision_fabric, decision_log_audit
from fraud_daemons.workers.rtdl_core import context_store_flow_binding
from tests import context_world
from tests.case_labels_records import decision
from tests.integration.lane import bind, flow, intent
from tests.line import Line

pytestmark = pytest.mark.datastore


def cut_sessions(line: Line) -> None:
    """End every other session on the database, as a restart of the server would, and wait until they are gone."""
    line.sql(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )


def positions(line: Line, worker: str) -> dict[str, int]:
    """Topic -> records behind the worker's checkpoint, over all partitions."""
    rows = line.sql(
        'select topic, sum("position")::integer from checkpoints.positions where worker = %s group by topic', (worker,)
    )
    return dict(rows)


def test_decision_fabric_checkpoint(line: Line) -> None:
    """The checkpoint moves with the decisions, on both topics, and a restart goes on behind it."""
    records = bind(line, [flow(n) for n in range(20)])
    line.append("flows.featured", records[:12])
    line.work(decision_fabric.WORKER)
    assert positions(line, "decision_fabric") == {"flows.bound": 12, "flows.featured": 12}
    line.append("flows.featured", records[12:])
    assert line.work(decision_fabric.WORKER) == 8
    assert line.sql("select count(*) from df.decisions") == [(20,)]
    assert positions(line, "decision_fabric") == {"flows.bound": 20, "flows.featured": 20}


def test_decision_fabric_replay_after_a_cut_in_the_middle_of_a_batch(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away after the rows were written and before the commit: nothing stands, the replay writes all once."""
    line.append("flows.featured", bind(line, [flow(n) for n in range(20)]))
    activities = line.activities(decision_fabric.WORKER)
    activities[0].step()  # takes its claim
    publish = decision_fabric._publish

    def cut(*arguments: object) -> None:
        cut_sessions(line)
        publish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decision_fabric, "_publish", cut)
    with pytest.raises(TransientFault):
        activities[0].step()
    activities[0].forget()
    assert line.sql("select count(*) from df.decisions") == [(0,)]
    assert line.records("decisions") == []
    monkeypatch.setattr(decision_fabric, "_publish", publish)
    line.drain(activities)
    assert sorted(body["flow_id"] for body in line.bodies("decisions")) == sorted(f"flow{n}" for n in range(20))


def test_action_layer_storage(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intent, outcome, publication and checkpoint stand together or not at all, and each once."""
    line.append("action_intents", [intent(line, n) for n in range(20)])
    activities = line.activities(action_layer.WORKER)
    activities[0].step()
    conclude = action_layer.conclude

    def cut(*arguments: object) -> None:
        conclude(*arguments)  # type: ignore[arg-type]
        cut_sessions(line)

    monkeypatch.setattr(action_layer, "conclude", cut)
    with pytest.raises(TransientFault):
        activities[0].step()
    activities[0].forget()
    assert line.sql("select (select count(*) from al.intents), (select count(*) from al.outcomes)") == [(0, 0)]
    monkeypatch.setattr(action_layer, "conclude", conclude)
    line.drain(activities)
    assert line.sql("select count(*), count(distinct intent_id) from al.outcomes") == [(20, 20)]
    assert len(line.records("action_outcomes")) == 20
    assert positions(line, "action_layer") == {"action_intents": 20}


def test_decision_log_audit_intake(line: Line) -> None:
    """Every decision and outcome that was taken in stands in the index, once, also after everything is read again."""
    line.append("flows.featured", bind(line, [flow(n, traffic={"amount_minor": 600_000}) for n in range(10)]))
    line.work(decision_fabric.WORKER)
    line.work(action_layer.WORKER)
    for _ in range(2):
        line.fresh_checkpoints()
        line.drain(line.activities(decision_log_audit.WORKER)[:1])
        assert line.sql("select count(*) from dla.chains where state = 'CLOSED'") == [(10,)]
        assert line.sql("select count(*) from dla.outcomes") == [(len(line.records("action_outcomes")),)]
        assert len(line.records("audit_chains")) == 10


def test_decision_log_audit_storage(line: Line) -> None:
    """An object whose put was done but not noted, since the server went away, is noted by the next start, not doubled."""
    line.append("flows.featured", bind(line, [flow(n) for n in range(10)]))
    line.work(decision_fabric.WORKER)
    line.work(decision_log_audit.WORKER, settings={"evidence.linger_seconds": 0.0})
    objects = list(line.make_store().list(f"{line.run}/dla/audit/"))
    assert line.sql("select sum(records) from dla.segments where state = 'COMPLETE'") == [(10,)]
    line.sql("update dla.segments set state = 'INTENT'")  # as the ledger stands between put and note
    line.work(decision_log_audit.WORKER, settings={"evidence.linger_seconds": 0.0})
    assert line.sql("select distinct state from dla.segments") == [("COMPLETE",)]
    assert list(line.make_store().list(f"{line.run}/dla/audit/")) == objects


def test_context_store_intake(line: Line) -> None:
    """Every part that was taken in stands in the store, once, with the checkpoint behind it; what waits is not bound."""
    events = context_world.world(20)
    for output in OUTPUTS[:-1]:  # the anchors are still to come
        context_world.send(line, output, events[output])
    for _ in range(2):
        line.fresh_checkpoints()
        assert line.work(context_store_flow_binding.WORKER) == 60
        assert line.sql("select count(*) from csfb.frames") == [(20,)]
        assert line.sql("select count(*) from csfb.anomalies") == [(0,)]
        assert line.sql("select count(*) from csfb.bindings") == [(0,)]
    assert sum(positions(line, "context_store_flow_binding").values()) == 60


def test_context_store_storage_after_a_cut_in_the_middle_of_a_batch(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away while bindings are published: no frame, no binding and no checkpoint stands; the repetition
    binds every flow once, in order."""
    events = context_world.world(20)
    for output in OUTPUTS:
        context_world.send(line, output, events[output])
    context_world.send_marks(line, events["traffic"][-1])
    activities = line.activities(context_store_flow_binding.WORKER)
    activities[0].step()  # takes its claim
    publish = UnitOfWork.publish

    def cut(unit: UnitOfWork, *arguments: object, **names: object) -> None:
        cut_sessions(line)
        publish(unit, *arguments, **names)  # type: ignore[arg-type]

    monkeypatch.setattr(UnitOfWork, "publish", cut)
    with pytest.raises(TransientFault):
        activities[0].step()
    monkeypatch.undo()
    activities[0].forget()
    assert line.sql("select (select count(*) from csfb.frames), (select count(*) from csfb.bindings)") == [(0, 0)]
    assert line.records("flows.bound") == []
    assert set(positions(line, "context_store_flow_binding").values()) == {0}
    line.drain(activities)
    assert context_world.problems(line, events) == []


def test_case_trigger_checkpoint(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trigger, publication and checkpoint commit together: after a cut none of them stands, after the repetition all do."""
    line.append("decisions", [decision(n, outcome="BLOCK", run=line.run) for n in range(20)])
    activities = line.activities(case_trigger.WORKER)
    activities[0].step()  # takes its claim
    publish = UnitOfWork.publish

    def cut(unit: UnitOfWork, *arguments: object, **names: object) -> None:
        publish(unit, *arguments, **names)  # type: ignore[arg-type]
        cut_sessions(line)

    monkeypatch.setattr(UnitOfWork, "publish", cut)
    with pytest.raises(TransientFault):
        activities[0].step()
    monkeypatch.undo()
    activities[0].forget()
    assert line.sql("select count(*) from case_trigger.triggers") == [(0,)]
    assert set(positions(line, "case_trigger").values()) == {0}
    line.drain(activities)
    assert line.sql("select count(*) from case_trigger.triggers") == [(20,)]
    assert len(line.records("case_triggers")) == 20
    assert positions(line, "case_trigger") == {"decisions": 20, "action_outcomes": 0}


def test_connector_lifecycle(line: Line) -> None:
    """One session for all the scopes of a worker's life; when the server ends it, one more, and nothing is left open."""
    line.append("flows.featured", bind(line, [flow(n) for n in range(20)]))  # the test has a session of its own
    before = counters()
    activities = line.activities(decision_fabric.WORKER, settings={"loop.batch_records_max": 2})
    line.drain(activities)
    assert counters()["opened"] - before["opened"] <= 1
    assert counters()["reused"] - before["reused"] >= 5, "its claim, its batches and its last looks"
    cut_sessions(line)
    line.append("flows.featured", bind(line, [flow(n) for n in range(20, 40)]))
    before = counters()
    line.drain(activities)
    assert counters()["opened"] - before["opened"] <= 1
    assert line.sql("select count(*) from df.decisions") == [(40,)]
    states = (  # of clients: vacuuming is the server's own affair
        "select distinct state from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'"
    )
    assert line.sql(states) == [("idle",)]
