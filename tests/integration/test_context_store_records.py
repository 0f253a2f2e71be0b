"""What context_store_flow_binding keeps and says of single records: conflicts apart, parts by position, live flows by their budget,
poison set aside, and nothing of a step that failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from fraud_daemons.bus.port import OutRecord
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.domain.identity import payload_hash
from fraud_daemons.workers.rtdl_core.context_store_flow_binding import WORKER
from tests.context_world import bound, problems, send, send_marks, world
from tests.line import RUN, Line


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("when", ["same batch", "waiting", "left"])
def test_a_conflict_is_kept_apart_and_never_used(line: Line, output: str, when: str) -> None:
    """Same key, other payload: the first stays and is bound, the other is kept whole with both hashes, and counted."""
    events = world(3)
    other = orjson.loads(orjson.dumps(events[output][1]))
    other["event_id"] = "f" * 32
    other["payload"]["ip" if output in ("arrival_entities", "flow_anchors") else "message_type"] = "other"
    activities = line.activities(WORKER)
    for name in OUTPUTS:
        send(line, name, events[name])
    if when == "left":
        send_marks(line, events["traffic"][-1])
    if when != "same batch":
        line.drain(activities)
    send(line, output, [other, other])
    send_marks(line, events["traffic"][-1])
    line.drain(activities)
    assert problems(line, events) == []
    assert "other" not in orjson.dumps(bound(line)).decode()
    rows = line.sql('select "output", stored_hash, payload_hash, body from csfb.anomalies')
    assert len(rows) == 2  # one row for each record that came
    stored, arrived = bytes.fromhex(payload_hash(events[output][1])), bytes.fromhex(payload_hash(other))
    assert all(row == (output, stored, arrived, orjson.dumps(other)) for row in rows)


def test_a_frame_serves_one_flow(line: Line) -> None:
    """Two flows that name one frame: the first in order has it, the second is PARTIAL once the marks have passed."""
    events = world(4)
    thief = events["flow_anchors"][2]["payload"]
    thief["arrival_seq"], thief["terminal_id"] = 1, "t0"
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1])
    line.work(WORKER)
    assert [b["context_status"] for b in bound(line)] == ["COMPLETE", "COMPLETE", "PARTIAL", "COMPLETE"]
    assert line.sql("select taken_by from csfb.frames where frame_key = 't0|m|1'") == [("af00000",)]


# --- what a bound record says, and what stays behind


def test_the_bound_record_says_where_its_parts_came_from(line: Line) -> None:
    """Parts, positions, the newest append time; and the binding's row says the same."""
    events = world(2)
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1])
    line.work(WORKER)
    first = bound(line)[0]
    parts = {
        r.topic: r for output in OUTPUTS for r in line.records(output) if r.body == orjson.dumps(events[output][0])
    }
    assert first["sources"] == {output: [parts[output].partition, parts[output].position] for output in OUTPUTS}
    assert first["admitted_at"] == pytest.approx(max(part.appended_at for part in parts.values()), abs=1e-6)
    assert first["traffic"] == events["traffic"][0]["payload"]
    assert first["anchor"] == events["flow_anchors"][0]["payload"]
    assert first["arrival"] == events["arrival_events"][0]["payload"]
    assert first["entities"] == events["arrival_entities"][0]["payload"]
    names = ", ".join(f"{output}_partition, {output}_position" for output in OUTPUTS)
    ((event_id, frame, *places),) = line.sql(
        f"select event_id, frame_key, {names} from csfb.bindings where flow_id = %s", (first["flow_id"],)
    )
    assert (event_id, frame) == (events["traffic"][0]["event_id"], "t0|m|1")
    assert places == [number for output in OUTPUTS for number in first["sources"][output]]


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_bodies_go_when_their_flow_has_left(line: Line, in_one_batch: bool) -> None:
    """After a flow has left nothing but keys and hashes stays of its parts."""
    events = world(10)
    activities = line.activities(WORKER)
    for output in OUTPUTS:
        send(line, output, events[output])
        if not in_one_batch:
            line.drain(activities)
    send_marks(line, events["traffic"][-1])
    line.drain(activities)
    assert line.sql("select count(*) from csfb.pending") == [(0,)]
    assert line.sql("select count(*), count(body) from csfb.anchors") == [(10, 0)]
    kept = line.sql(
        "select count(*), count(arrival_hash), count(entities_hash), count(arrival_body), count(entities_body), count(taken_by) from csfb.frames"
    )
    assert kept == [(10, 10, 10, 0, 0, 10)]


def test_a_late_anchor_changes_nothing(line: Line) -> None:
    """An anchor that comes after its flow left as MISSING is stored and never used."""
    events = world(4)
    withheld = events["flow_anchors"].pop(1)
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1])
    line.work(WORKER)
    send(line, "flow_anchors", [withheld])
    line.work(WORKER)
    assert problems(line, events, withheld=[withheld["payload"]["flow_id"]]) == []
    assert line.sql("select count(*), count(body) from csfb.anchors") == [(4, 0)]


# --- live flows


def live_clock(line: Line) -> None:
    """Bring the manual clock to the bus's time: budgets compare the two."""
    line.clock.advance((datetime.now(UTC) - line.clock.now()).total_seconds())


def test_a_live_flow_leaves_when_complete(line: Line) -> None:
    """Without world and marks a complete flow leaves at once, whatever its parts' order."""
    events = world(6, name=None)
    activities = line.activities(WORKER)
    for output in reversed(OUTPUTS):
        send(line, output, events[output][:5])
        line.drain(activities)
    found = bound(line)
    assert len(found) == 5
    assert {(b["context_status"], b["release_rule"], b["world"]) for b in found} == {("COMPLETE", "complete", None)}


def test_a_live_flow_leaves_by_its_budget(line: Line) -> None:
    """An incomplete live flow leaves when its budget has run out, without any new record, and says so."""
    events = world(3, name=None)
    live_clock(line)
    activities = line.activities(WORKER, settings={"context.budget_seconds": 2.0})
    send(line, "traffic", events["traffic"][:2])
    send(line, "flow_anchors", events["flow_anchors"][:1])
    line.drain(activities)
    assert bound(line) == []
    live_clock(line)
    line.clock.advance(1.0)
    line.drain(activities)
    assert bound(line) == []
    line.clock.advance(1.5)
    line.drain(line.activities(WORKER, settings={"context.budget_seconds": 2.0}))  # also after a restart
    assert [(b["context_status"], b["release_rule"]) for b in bound(line)] == [
        ("PARTIAL", "budget"),
        ("MISSING", "budget"),
    ]


# --- poison


def test_a_record_that_breaks_its_contract_is_set_aside(line: Line) -> None:
    """Records that are no events become dead letters; those around them are bound."""
    events = world(4)
    bad = (b"no json", b"[]", b"1,2", b"null", b'{"event_id": "x"}')
    with line.bus.transaction() as log:
        log.append([OutRecord("traffic", "x", "x", RUN, body) for body in bad])
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1])
    line.work(WORKER)
    assert problems(line, events) == []
    assert line.sql("select count(*) from dead_letters.letters") == [(5,)]


def test_a_failed_step_leaves_no_trace_and_loses_nothing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails after all its writes is repeated whole: everything bound once."""
    events = world(8)
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1])
    activities = line.activities(WORKER)
    activities[0].step()  # claim
    monkeypatch.setattr(line.bus, "log", _failing_log(line.bus.log))
    with pytest.raises(RuntimeError, match="append"):
        activities[0].step()
    monkeypatch.undo()
    activities[0].forget()
    assert line.sql("select (select count(*) from csfb.bindings) + (select count(*) from csfb.frames)") == [(0,)]
    line.drain(activities)
    assert problems(line, events) == []


def _failing_log(real: Any) -> Any:
    def log(connection: Any) -> Any:
        made = real(connection)

        def fail(_records: Mapping[str, Any], **_: Any) -> None:
            raise RuntimeError("the append failed")

        made.append = fail
        return made

    return log
