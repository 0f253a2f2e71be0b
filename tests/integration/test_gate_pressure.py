"""What makes the gate refuse before it does anything: limits of a body, and too much that waits behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest

from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.runtime.database import Database
from fraud_daemons.workers.control_ingress._gate_downstream import Downstream, Lag
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER as GATE
from fraud_daemons.workers.decision_lane.decision_fabric import WORKER as DECISIONS
from fraud_daemons.workers.rtdl_core.context_store_flow_binding import WORKER as CONTEXT
from fraud_daemons.workers.rtdl_core.online_feature_plane import WORKER as FEATURES
from tests.gate import CLIENT_KEY, Answer, Gate, events_of, free_port, open_gate
from tests.line import RUN, AdvanceOnly, Line


@pytest.fixture
def gate(line: Line) -> Iterator[Gate]:
    with open_gate(line) as opened:
        yield opened


def seal(line: Line, gate: Gate) -> None:
    for _ in range(2):
        line.drain(gate.activities[1:], advance_seconds=2.0)


def checks(gate: Gate) -> dict[str, str]:
    """What /readyz says per look, and that its status agrees with them."""
    answer = gate.request("GET", "/readyz", key=None)
    found: dict[str, str] = answer.body["checks"]
    assert (answer.status == 200) == all(said == "ok" for said in found.values())
    assert answer.body["status"] == ("ready" if answer.status == 200 else "not ready")
    return found


def refused(answer: Answer) -> tuple[int, str]:
    assert int(answer.headers["Retry-After"]) >= 1
    assert {"error", "detail", "fix"} <= answer.body.keys()
    return answer.status, answer.body["error"]


def test_evidence_too_far_behind_is_back_pressure(line: Line) -> None:
    """With more unsealed records than the limit the gate answers 429; when the sealers have caught up it opens again."""
    with open_gate(line, settings={"gate.unsealed_records_max": 5}) as gate:
        assert gate.post(events_of(range(10), run=RUN)).status == 200
        line.clock.advance(2)
        assert refused(gate.post(events_of(range(10, 12), run=RUN))) == (429, "evidence_behind")
        assert checks(gate)["evidence_behind"] == "10 records wait for their evidence object, 5 may"
        seal(line, gate)
        assert gate.post(events_of(range(10, 12), run=RUN)).statuses == ["ADMITTED"] * 2
        assert set(checks(gate).values()) == {"ok"}


def test_a_context_store_too_far_behind_is_back_pressure(line: Line) -> None:
    """The lag is what stands on the bus behind the context store's checkpoint; nothing of the refused batch is kept, and
    once the context store has read on, the same batch is admitted."""
    with open_gate(line, settings={"gate.unbound_records_max": 5}) as gate:
        assert gate.post(events_of(range(10), run=RUN)).status == 200
        line.clock.advance(2)
        assert refused(gate.post(events_of(range(10, 12), run=RUN))) == (429, "context_behind")
        assert checks(gate)["context_behind"] == "10 records wait for the context store, 5 may"
        assert line.sql("select count(*) from ig.admissions") == [(10,)]
        assert len(line.records("traffic")) == 10
        line.drain(line.pass_through(CONTEXT))
        line.clock.advance(2)
        assert gate.post(events_of(range(10, 12), run=RUN)).statuses == ["ADMITTED"] * 2


def test_flows_that_wait_for_a_decision_are_back_pressure(line: Line) -> None:
    """Bound flows count until either way to a decision has passed them: with a silent feature plane, decisions made from
    the bound record open the gate again."""
    with open_gate(line, settings={"gate.undecided_flows_max": 5}) as gate:
        line.append("flows.bound", [{"flow_id": f"f{n}"} for n in range(8)])
        assert refused(gate.post(events_of(range(2), run=RUN))) == (429, "decisions_behind")
        line.drain([line.context_for(DECISIONS).consumer(AdvanceOnly(), topics=["flows.bound"])])
        line.clock.advance(2)
        assert gate.post(events_of(range(2), run=RUN)).statuses == ["ADMITTED"] * 2


def test_decisions_from_featured_records_count_too(line: Line) -> None:
    """What the feature plane has passed and decision_fabric has read is decided, wherever it stands on flows.bound."""
    with open_gate(line, settings={"gate.undecided_flows_max": 5}) as gate:
        for topic in ("flows.bound", "flows.featured"):
            line.append(topic, [{"flow_id": f"f{n}"} for n in range(8)])
        line.drain([line.context_for(FEATURES).consumer(AdvanceOnly(), topics=["flows.bound"])])
        assert refused(gate.post(events_of(range(2), run=RUN))) == (429, "decisions_behind")
        line.drain([line.context_for(DECISIONS).consumer(AdvanceOnly(), topics=["flows.featured"])])
        line.clock.advance(2)
        assert gate.post(events_of(range(2), run=RUN)).statuses == ["ADMITTED"] * 2


def test_a_stage_whose_own_server_is_silent_closes_nothing_and_is_left_alone(line: Line) -> None:
    """What is down there waits safely on the bus; the server is asked again after ten seconds, not by every request."""
    line.append("traffic", [{"flow_id": f"f{n}"} for n in range(8)])
    asked = []

    def dead() -> str:
        asked.append(1)
        return f"postgresql://nobody@127.0.0.1:{free_port()}/none"

    elsewhere = Database(DsnSource("ELSEWHERE", dead), ConnectOptions(connect_timeout=1))
    context = replace(
        line.context_for(GATE),
        database_of=lambda name: elsewhere if name == "CSFB_PROJECTION_DSN" else line.database,
    )
    downstream = Downstream(context)
    assert downstream.lag() == Lag(0, 0)
    tries = len(asked)
    assert tries > 0
    downstream.lag()
    assert len(asked) == tries
    line.clock.advance(11)
    downstream.lag()
    assert len(asked) > tries
    assert Downstream(line.context_for(GATE)).lag() == Lag(8, 0), "here it is known, and counts"


def test_a_stage_that_the_profile_lacks_and_a_limit_of_zero_close_nothing(line: Line) -> None:
    """A gate alone admits whatever nobody reads; 0 means without end."""
    settings = {"gate.unbound_records_max": 1, "gate.undecided_flows_max": 1, "profile.packs": ["control_ingress"]}
    for alone in (settings, {"gate.unbound_records_max": 0}):
        with open_gate(line, settings=alone) as gate:
            for start in (0, 10):
                assert gate.post(events_of(range(start, start + 10), run=RUN)).status == 200
                line.clock.advance(2)


def test_readiness_names_every_look_and_its_reason(gate: Gate) -> None:
    """Six looks, all well; draining is told apart from the rest."""
    assert checks(gate) == dict.fromkeys(
        ("draining", "disk", "queue", "evidence_behind", "context_behind", "decisions_behind", "database"), "ok"
    )
    gate.stop.request()
    assert [name for name, said in checks(gate).items() if said != "ok"] == ["draining"]
    assert gate.request("GET", "/healthz", key=None).body == {"status": "ok"}


@pytest.mark.parametrize("path", ["/v1/events", "/v1/transactions"])
def test_a_body_nested_too_deep_is_refused_before_it_is_parsed(line: Line, gate: Gate, path: str) -> None:
    """400 too_deep, whether or not the rest is JSON; nothing is kept. Brackets in a text are no nesting."""
    for body in (b"[" * 200_000, b'{"payload":' * 300 + b"1" + b"}" * 300, b"[" * 17 + b"]" * 17):
        answer = gate.request("POST", path, body, key=CLIENT_KEY)
        assert (answer.status, answer.body["error"]) == (400, "too_deep")
    assert line.sql("select count(*) from ig.quarantine") == [(0,)]
    shallow = gate.post([events_of([1], run=RUN)[0] | {"producer": "[{" * 30}])
    assert shallow.statuses == ["ADMITTED"]


def test_too_many_lines_are_refused_before_they_are_parsed(line: Line) -> None:
    """NDJSON is counted by lines: 413 even when no line is JSON; empty lines do not count."""
    with open_gate(line, settings={"gate.batch_events_max": 3}) as gate:
        many = gate.request("POST", "/v1/events", b"{no json\n" * 4, content_type="application/x-ndjson")
        assert (many.status, many.body["error"]) == (413, "batch_too_large")
        lines = b"\n\n".join(orjson.dumps(event) for event in events_of(range(3), run=RUN)) + b"\n\n\n"
        fits = gate.request("POST", "/v1/events", lines, content_type="application/x-ndjson")
        assert fits.statuses == ["ADMITTED"] * 3
