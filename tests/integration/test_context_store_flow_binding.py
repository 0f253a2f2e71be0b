"""context_store_flow_binding: everything leaves, in the world's order, with its context, and never because of slowness."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_daemons.bus.port import OutRecord, partition_of
from fraud_daemons.clock import iso
from fraud_daemons.domain.binding import ContextStatus, Release, ReleaseRule, release_by_budget
from fraud_daemons.domain.envelope import OUTPUTS, make_event, make_mark
from fraud_daemons.domain.identity import payload_hash
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.workers.rtdl_core import context_store_flow_binding as worker_module
from fraud_daemons.workers.rtdl_core.context_store_flow_binding import WORKER
from tests.line import RUN, Line

SCENARIO = "a" * 32
Event = dict[str, Any]
World = dict[str, list[Event]]


def world(flows: int, *, run: str = RUN, scenario: str = SCENARIO, name: str | None = "w", first: int = 0) -> World:
    """`flows` transactions of 5 cards at 3 terminals, two in each second, as events per output in the world's order."""
    events: World = {output: [] for output in OUTPUTS}
    for number in range(first, first + flows):
        at = iso(datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=number // 2))
        place = {"merchant_id": "m", "terminal_id": f"t{number % 3}", "arrival_seq": number + 1}
        who = {"party_id": None, "account_id": None, "card_token": f"c{number % 5}", "device_id": None, "ip": None}
        flow = {"flow_id": f"{scenario[0]}f{number:05d}"}
        where = {"channel": "POS", "pos_entry_mode": None, "mcc": "5411", "merchant_name": None, "country": "US"}
        payloads = {
            "traffic": {**flow, "amount_minor": 100 + number, "currency": "USD", "message_type": "0100"},
            "arrival_events": {**place, **where, "state": None, "postal_code": None},
            "arrival_entities": {**place, **who},
            "flow_anchors": {**flow, **place, **who},
        }
        for output, payload in payloads.items():
            events[output].append(
                make_event(
                    event_type=output, payload=payload, occurred_at=at, source_seq=number, platform_run_id=run,
                    scenario_run_id=scenario, world=name, producer="test",
                )
            )  # fmt: skip
    return events


def mark(output: str, event: Event) -> Event:
    """The mark of `output` up to and including `event`."""
    pins = event["pins"]
    return make_mark(
        output=output, up_to=(event["occurred_at"], event["source_seq"]), end_of_world=False, stop_reason=None,
        platform_run_id=pins["platform_run_id"], scenario_run_id=pins["scenario_run_id"], world=pins["world"], producer="test",
    )  # fmt: skip


def send(line: Line, output: str, events: Iterable[Event]) -> None:
    """Append events of one output, keyed as the gate does it."""
    line.append(output, events, key=lambda e: e["payload"].get("flow_id") or f"frame {e['payload']['arrival_seq']}")


def send_marks(line: Line, last: Event, outputs: Sequence[str] = OUTPUTS) -> None:
    """Marks up to `last`, on every partition of each output."""
    with line.bus.transaction() as log:
        partitions = len(log.heads(["traffic"]))
    keys = {}
    for n in count():  # a key for each partition
        keys.setdefault(partition_of(str(n), partitions), str(n))
        if len(keys) == partitions:
            break
    for output in outputs:
        for key in keys.values():
            line.append(output, [mark(output, last)], key=lambda _, key=key: key)


def send_shuffled(line: Line, events: World, *, seed: int, pieces: int = 4) -> None:
    """Everything of a world, each output shuffled on its own, the outputs in pieces that alternate at random."""
    dice = random.Random(seed)
    waiting = []
    for output, mine in events.items():
        mixed = dice.sample(mine, len(mine))
        size = max(1, len(mixed) // pieces)
        waiting += [(output, mixed[start : start + size]) for start in range(0, len(mixed), size)]
    dice.shuffle(waiting)
    for output, piece in waiting:
        send(line, output, piece)


def bound(line: Line) -> list[dict[str, Any]]:
    """Everything of flows.bound in the order in which it was appended, over all partitions."""
    rows = line.sql("select body from bus.log where topic = 'flows.bound' order by ctid")
    return [orjson.loads(body) for (body,) in rows]


def problems(line: Line, events: World, *, withheld: Sequence[str] = ()) -> list[str]:
    """What is wrong with the bindings of a world: somebody missing or doubled, out of order, or with a wrong status."""
    flows = {e["payload"]["flow_id"]: e for e in events["traffic"]}
    mine = [b for b in bound(line) if b["scenario_run_id"] == events["traffic"][0]["pins"]["scenario_run_id"]]
    found = [b["flow_id"] for b in mine]
    wrong = [f"{flow} is not bound" for flow in flows if flow not in found]
    wrong += [f"{flow} is bound twice" for flow in set(found) if found.count(flow) > 1]
    for field in ("card_token", "terminal_id"):
        last: dict[Any, tuple[str, int]] = {}
        for b in mine:
            place = (b["occurred_at"], b["source_seq"])
            if b[field] is not None and place < last.setdefault(b[field], place):
                wrong.append(f"{b['flow_id']} comes behind {last[b[field]]} of {field} {b[field]}")
            last[b[field]] = place
    stored = dict(line.sql("select flow_id, context_status from csfb.bindings"))
    for b in mine:
        expected = "MISSING" if b["flow_id"] in withheld else "COMPLETE"
        if not b["context_status"] == stored.get(b["flow_id"]) == expected:
            wrong.append(f"{b['flow_id']} is {b['context_status']}, not {expected}")
    return wrong


def without_anchor(events: World, flow_id: str) -> World:
    """The world with one anchor withheld."""
    return {**events, "flow_anchors": [e for e in events["flow_anchors"] if e["payload"]["flow_id"] != flow_id]}


# --- the facts of the issue


def withhold_one_anchor(line: Line, activities: Sequence[Activity]) -> tuple[list[str], list[int]]:
    """Shuffled outputs, one anchor withheld: what is wrong at the end, and how many had left at each stage."""
    events = world(60)
    withheld = events["traffic"][37]["payload"]["flow_id"]
    left = []
    send_shuffled(line, without_anchor(events, withheld), seed=3)
    line.drain(activities)
    left.append(len(bound(line)))
    send_marks(line, events["traffic"][-1], ("traffic", "arrival_events", "arrival_entities"))
    line.drain(activities)
    left.append(len(bound(line)))
    send_marks(line, events["traffic"][-1], ("flow_anchors",))
    line.drain(activities)
    left.append(len(bound(line)))
    return problems(line, events, withheld=[withheld]), left


def freeze_the_producer(line: Line) -> list[str]:
    """Anchors and entities come 20 s after the rest, a new process looks every second: what is wrong at the end."""
    events = world(20)
    for output in ("traffic", "arrival_events"):
        send(line, output, events[output])
        send_marks(line, events[output][-1], (output,))
    line.clock.advance((datetime.now(UTC) - line.clock.now()).total_seconds())
    for _ in range(21):
        line.work(WORKER)
        line.clock.advance(1)
    for output in ("arrival_entities", "flow_anchors"):
        send(line, output, events[output])
        send_marks(line, events[output][-1], (output,))
    line.work(WORKER)
    return problems(line, events)


def test_one_withheld_anchor_leaves_exactly_one_missing(line: Line) -> None:
    """All are bound in order per card and per terminal; the one without anchor is MISSING, only after the mark passed."""
    assert withhold_one_anchor(line, line.activities(WORKER)) == ([], [0, 37, 60])


def test_a_frozen_producer_makes_nothing_partial(line: Line) -> None:
    """A world's flow waits 20 s for its anchor as it would wait a day: for the mark."""
    assert freeze_the_producer(line) == []


def test_the_pass_through_is_seen(line: Line) -> None:
    """Red counterpart: a handler that only advances the checkpoint binds nothing."""
    wrong, left = withhold_one_anchor(line, line.pass_through(WORKER))
    assert len(wrong) == 60
    assert left == [0, 0, 0]


def test_emitting_at_once_is_seen(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red counterpart: a handler that lets everything go at once breaks order and status."""

    def at_once(pending: Iterable[Any], _marks: Any, *, limit: int) -> list[Release]:
        status = {True: ContextStatus.COMPLETE, False: ContextStatus.MISSING}
        return [
            Release(p.flow_id, status[p.has_anchor and p.has_arrival and p.has_entities], ReleaseRule.MARKS)
            for p in pending
        ]

    monkeypatch.setattr(worker_module, "release_by_marks", at_once)
    wrong, _ = withhold_one_anchor(line, line.activities(WORKER, settings={"loop.batch_records_max": 5}))
    assert wrong


def test_a_wall_clock_budget_is_seen(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red counterpart: a handler that gives a world's flows a wall-clock budget makes a slow producer's flows MISSING."""

    def by_clock(pending: Sequence[Any], _marks: Any, *, limit: int) -> list[Release]:
        now = line.clock.now().timestamp()
        return release_by_budget(pending, now=now, budget_seconds=2.0, limit=limit)

    monkeypatch.setattr(worker_module, "release_by_marks", by_clock)
    assert freeze_the_producer(line)


# --- order


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), batch=st.sampled_from([1, 3, 17, 500]), restart=st.booleans())
def test_any_arrival_within_the_marks_gives_the_same_sequence(line: Line, seed: int, batch: int, restart: bool) -> None:
    """However outputs are shuffled, cut into batches and interrupted, flows.bound is the world in its order."""
    run = f"platform_20260101T{len(bound(line)):06d}Z"
    events = world(16, run=run)
    half = events["traffic"][7]
    first = {output: mine[:8] for output, mine in events.items()}
    second = {output: mine[8:] for output, mine in events.items()}
    activities = line.activities(WORKER, settings={"loop.batch_records_max": batch})
    for part, last in ((first, half), (second, events["traffic"][-1])):
        send_shuffled(line, part, seed=seed)
        line.drain(activities)
        send_marks(line, last)
        if restart:
            activities[0].step()
            activities = line.activities(WORKER, settings={"loop.batch_records_max": batch})
        line.drain(activities)
    mine = [b for b in bound(line) if b["platform_run_id"] == run]
    assert [b["flow_id"] for b in mine] == [e["payload"]["flow_id"] for e in events["traffic"]]
    assert {b["context_status"] for b in mine} == {"COMPLETE"}


def test_several_runs_and_worlds_in_one_batch_keep_their_own_order(line: Line) -> None:
    """Interleaved runs and worlds are bound each for itself; equal flow and frame names do not meet."""
    other_run = "platform_20260102T000000Z"
    worlds = [world(30), world(30, scenario="b" * 32), world(30, run=other_run)]
    for output in OUTPUTS:
        mixed = [event for triple in zip(*(w[output] for w in worlds), strict=True) for event in triple]
        random.Random(1).shuffle(mixed)
        send(line, output, mixed)
    for w in worlds:
        send_marks(line, w["traffic"][-1])
    line.work(WORKER)
    found = bound(line)
    for run, scenario in ((RUN, SCENARIO), (RUN, "b" * 32), (other_run, SCENARIO)):
        mine = [b for b in found if (b["platform_run_id"], b["scenario_run_id"]) == (run, scenario)]
        places = [(b["occurred_at"], b["source_seq"]) for b in mine]
        assert len(mine) == 30
        assert all(a < b for a, b in pairwise(places))
        assert {b["context_status"] for b in mine} == {"COMPLETE"}


def test_the_lowest_mark_over_partitions_counts(line: Line) -> None:
    """A mark on two of three partitions lets nobody go: the third may still hold something earlier."""
    events = world(9)
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1], OUTPUTS[1:])
    for key in ("a", "b"):
        line.append("traffic", [mark("traffic", events["traffic"][-1])], key=lambda _, key=key: key)
    partitions = {r.partition for r in line.records("traffic") if orjson.loads(r.body)["event_type"] == "progress_mark"}
    assert len(partitions) < 3
    activities = line.activities(WORKER)
    line.drain(activities)
    assert bound(line) == []
    send_marks(line, events["traffic"][-1], ("traffic",))
    line.drain(activities)
    assert problems(line, events) == []


def test_what_a_limit_held_back_leaves_without_a_new_record(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mark frees more than one step may release: the rest follows in steps of their own, in order, at once."""
    monkeypatch.setattr(worker_module, "RELEASES_MAX", 7)
    events = world(40)
    for output in OUTPUTS:
        send(line, output, events[output])
    activities = line.activities(WORKER)
    line.drain(activities)
    send_marks(line, events["traffic"][-1])
    outcome = activities[0].step()
    assert (len(bound(line)), outcome.rest_seconds) == (7, 0.0)
    activities = line.activities(WORKER)  # a restart in the middle: the new process finds them by itself
    line.drain(activities)
    assert problems(line, events) == []
    assert [b["source_seq"] for b in bound(line)] == list(range(40))


def test_a_restart_between_any_two_steps_changes_nothing(line: Line) -> None:
    """A new process for every batch binds the same world in the same order."""
    events = world(30)
    send_shuffled(line, events, seed=5)
    send_marks(line, events["traffic"][-1])
    for _ in range(25):
        activities = line.activities(WORKER, settings={"loop.batch_records_max": 4})
        activities[0].step()
        activities[0].step()
    line.work(WORKER)
    assert problems(line, events) == []


def test_reading_everything_again_binds_nothing_again(line: Line) -> None:
    """A consumer that lost its checkpoint meets its own footprint: all parts are repeats."""
    events = world(12)
    for output in OUTPUTS:
        send(line, output, events[output])
    send_marks(line, events["traffic"][-1])
    line.work(WORKER)
    before = bound(line)
    line.fresh_checkpoints()
    line.work(WORKER)
    assert bound(line) == before
    assert line.sql("select sum(repeats) from csfb.repeats") == [(48,)]
    assert line.sql("select count(*) from csfb.anomalies") == [(0,)]


# --- conflicts


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
