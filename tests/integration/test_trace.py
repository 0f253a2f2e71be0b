"""platform trace: one event's whole way, over the real gate, workers, database and object store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fraud_daemons.acceptance.tracing import trace
from fraud_daemons.cli.main import run
from fraud_daemons.domain.envelope import OUTPUTS, make_event
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.workers.case_labels import case_management, case_trigger, label_store
from fraud_daemons.workers.decision_lane import action_layer, decision_fabric, decision_log_audit
from fraud_daemons.workers.rtdl_core import context_store_flow_binding, online_feature_plane
from tests.gate import SCENARIO, Gate, mark, open_gate
from tests.line import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.line import Line

STAGES = ["admitted", "bound", "featured", "decided", "acted", "audited", "case", "labelled"]


@pytest.fixture
def gate(line: Line) -> Iterator[Gate]:
    with open_gate(line) as opened:
        yield opened


def event(line: Line, event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    return make_event(
        event_type=event_type,
        payload=payload,
        occurred_at="2026-01-01T00:00:01.000000Z",
        source_seq=1,
        platform_run_id=line.run,
        scenario_run_id=SCENARIO,
        world="test",
        producer="world_stream_producer",
    )


def one_transaction(line: Line, *, amount_minor: int = 900_000) -> dict[str, dict[str, Any]]:
    """All events of one flow, by type: an extreme amount, so that the policy blocks it and a case opens."""
    place = {"merchant_id": "m1", "terminal_id": "t1", "arrival_seq": 1}
    ids = {"party_id": "p1", "account_id": None, "card_token": "card1", "device_id": None, "ip": None}
    context = {"channel": "POS", "pos_entry_mode": None, "mcc": "5411", "merchant_name": None, "country": "US", "state": None, "postal_code": None}  # fmt: skip
    traffic = {"flow_id": "flow1", "amount_minor": amount_minor, "currency": "USD", "message_type": "0100"}
    truth = {"flow_id": "flow1", "fraud": True, "fraud_type": None, "effective_time": "2026-01-01T00:00:01.000000Z", "source_ref": None, "correction": 0}  # fmt: skip
    return {
        "traffic": event(line, "traffic", traffic),
        "arrival_events": event(line, "arrival_events", {**place, **context}),
        "arrival_entities": event(line, "arrival_entities", {**place, **ids}),
        "flow_anchors": event(line, "flow_anchors", {"flow_id": "flow1", **place, **ids}),
        "truth": event(line, "truth", truth),
    }


def admit(gate: Gate, events: dict[str, dict[str, Any]]) -> None:
    assert set(gate.post(list(events.values())).statuses) == {"ADMITTED"}


def run_the_line(line: Line, gate: Gate) -> None:
    """The marks, then every worker in the order of the line until nobody has anything left, then what is to be sealed."""
    marks = [mark(output, 1, run=line.run) for output in OUTPUTS]
    assert set(gate.post(marks).statuses) == {"ADMITTED"}
    for worker in (
        context_store_flow_binding.WORKER,
        online_feature_plane.WORKER,
        decision_fabric.WORKER,
        action_layer.WORKER,
        case_trigger.WORKER,
        case_management.WORKER,
        label_store.WORKER,
    ):
        line.work(worker, advance_seconds=0.1)
    audit = line.activities(decision_log_audit.WORKER)
    for _ in range(3):  # a sealer that lingers looks idle
        line.drain(audit, advance_seconds=2.0)
        line.drain(gate.activities[1:], advance_seconds=2.0)


def traced(line: Line, identity: str) -> dict[str, Any]:
    with line.database.scope() as connection:
        found = trace(lambda _name: connection, line.run, identity)
    assert found is not None
    return found


def stage(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in document["stages"] if stage["stage"] == name)


def test_every_id_of_a_transaction_leads_to_its_whole_way(line: Line, gate: Gate) -> None:
    """Traced by flow, decision, traffic, anchor, arrival or truth event: the same eight stages, all reached, in their order."""
    events = one_transaction(line)
    admit(gate, events)
    run_the_line(line, gate)
    whole = traced(line, "flow1")
    assert [s["stage"] for s in whole["stages"]] == STAGES
    assert [s["stage"] for s in whole["stages"] if not s["reached"]] == [], whole["stages"]
    assert all(s["at"] for s in whole["stages"])
    assert whole["decision_id"] == derived_id("decision", line.run, "flow1")
    for identity in (whole["decision_id"], *(e["event_id"] for e in events.values())):
        assert traced(line, identity)["stages"] == whole["stages"], identity


def test_the_evidence_named_is_there(line: Line, gate: Gate) -> None:
    """Each receipt object and the audit object exist in the store and hold this event and this chain."""
    events = one_transaction(line)
    admit(gate, events)
    run_the_line(line, gate)
    whole = traced(line, "flow1")
    store = line.make_store()
    receipts = stage(whole, "admitted")["events"]
    assert {r["event_type"] for r in receipts} == set(events)
    for receipt in receipts:
        assert receipt["event_id"].encode() in store.get(receipt["receipt_object"])
    audited = stage(whole, "audited")
    assert audited["chain_id"].encode() in store.get(audited["object"])


def test_the_command_says_it_in_lines_and_in_json(
    line: Line, gate: Gate, short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`platform trace` names every stage, the receipt's object and the position; --json is the same as one object."""
    monkeypatch.setenv("PLATFORM_DSN", line.dsn)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))
    admit(gate, one_transaction(line))
    run_the_line(line, gate)
    capsys.readouterr()
    assert run(["--root", str(ROOT), "trace", "flow1"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name} " in text for name in STAGES)
    assert f"{line.run}/ig/receipts/traffic-" in text
    assert "traffic/0/0" in text or "traffic/1/0" in text or "traffic/2/0" in text
    assert run(["--root", str(ROOT), "trace", "flow1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == traced(line, "flow1")


def test_a_stage_not_reached_is_said_so(line: Line, gate: Gate) -> None:
    """Step by step: admitted only; then waiting for its context; nothing is claimed that is not there."""
    events = one_transaction(line)
    admit(gate, {"traffic": events["traffic"]})
    for identity in ("flow1", events["traffic"]["event_id"]):
        whole = traced(line, identity)
        assert [s["stage"] for s in whole["stages"] if s["reached"]] == ["admitted"]
        assert stage(whole, "bound")["note"] == "not read yet"
        assert "not sealed" in stage(whole, "admitted")["note"]
    line.work(context_store_flow_binding.WORKER)
    assert stage(traced(line, "flow1"), "bound")["note"] == "waits for its context"


def test_an_allowed_transaction_has_no_case_and_says_why(line: Line, gate: Gate) -> None:
    """No trigger and no action are answers too: the stage is not reached because it was not called for."""
    admit(gate, one_transaction(line, amount_minor=1000))
    run_the_line(line, gate)
    whole = traced(line, "flow1")
    assert stage(whole, "decided")["outcome"] == "ALLOW"
    assert stage(whole, "case")["note"] == "no case was called for"
    assert stage(whole, "acted")["note"] == "no action was asked for"
    assert stage(whole, "audited")["reached"]


def test_an_unknown_id_has_no_way(line: Line, gate: Gate) -> None:
    """An id that nobody has met gives nothing, also one of another run."""
    admit(gate, one_transaction(line))
    with line.database.scope() as connection:
        assert trace(lambda _name: connection, line.run, "0" * 32) is None
        assert trace(lambda _name: connection, "platform_19990101T000000Z", "flow1") is None
