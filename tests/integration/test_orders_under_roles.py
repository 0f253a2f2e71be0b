"""What people ask for by command, under the login roles of the operator and of each owner: the grants are enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.postgres_runtime.provisioning import OPERATOR
from fraud_daemons.workers.case_labels import label_store
from fraud_daemons.workers.control_ingress import ingestion_gate
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core import identity_entity_graph
from tests.gate import open_gate, traffic
from tests.integration.lane import bind, flow, pin
from tests.line import ROOT, Line, at_work
from tests.own_roles import built_as_its_role, dsn_as, work_as_its_role


def test_operator_and_owners_do_it_with_their_grants(
    roles: Line, short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label asserted and exported, a letter redriven and one skipped, a refused event through the gate again: the commands
    as fp_operator, the owners as fp_label_store, fp_ieg and fp_ig."""
    line = roles
    monkeypatch.setenv("PLATFORM_DSN", dsn_as(line, OPERATOR))
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))

    def say(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        code = run(["--root", str(ROOT), *words, "--json"])
        said = capsys.readouterr()
        found: dict[str, Any] = json.loads(next(text for text in said.out.splitlines() if text.startswith("{")))
        assert code == 0, found
        return found

    later = "platform_20991231T000000Z"
    line.begin_run()
    with open_gate(line) as gate:
        refused = gate.post([traffic(1, run=later)]).results[0]["quarantine_id"]
    line.clock.advance(-1)
    line.begin_run(later)
    line.clock.advance(1)
    pin(line, "NORMAL")
    line.append("flows.featured", bind(line, [flow(1)]))
    line.append(
        "flows.bound", [{"flow_id": "a", "platform_run_id": line.run}, {"flow_id": "b", "platform_run_id": line.run}]
    )
    for worker in (decision_fabric.WORKER, identity_entity_graph.WORKER):
        work_as_its_role(line, worker)
    letters = [f"identity_entity_graph:flows.bound:{p}:{n}" for p, n in line.sql(
        "select \"partition\", \"position\" from dead_letters.letters where worker = 'identity_entity_graph'")]  # fmt: skip
    line.sql(
        "update dead_letters.letters set body = (select body from bus.log where event_id = 'flow1' and topic = 'flows.bound')"
    )
    with at_work(lambda: built_as_its_role(line, label_store.WORKER)):
        say("labels", "assert", "flow1", "FRAUD", "--observed", "2025-12-31T00:00:00Z", "--run", line.run)
    assert say("labels", "export", str(short_dir / "slice.csv"), "--run", line.run)["labelled"] == 1
    with at_work(lambda: built_as_its_role(line, identity_entity_graph.WORKER), clock=line.clock, advance_seconds=0.2):
        assert say("deadletters", "redrive", letters[0], "--reason", "mended")["redriven"] == 1
    say("deadletters", "skip", letters[1], "--reason", "of no use")
    line.ports["gate"] = line.ports.get("gate", 0)
    with at_work(lambda: built_as_its_role(line, ingestion_gate.WORKER)[-2:-1]):
        assert say("quarantine", "redrive", refused, "--reason", "begun")["admitted"] == 1
    for command in ("run", "decisions", "cases", "labels", "deadletters", "quarantine"):
        say(command, "list")
