"""The world stream producer against a real gate over HTTP: its journal against the sealed world, killed everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.errors import TransientFault
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import streams
from fraud_daemons.workers.control_ingress._producer_client import GateClient
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER
from fraud_daemons.worlds.sealed import World
from tests import producing
from tests.gate import PRODUCER_KEY, open_gate
from tests.line import ROOT, Line
from tests.producing import (
    TRANSACTIONS,
    ask,
    check_marks,
    check_slice,
    producer,
    work_until_ended,
    world_ids,
    write_beat,
)


class Killed(BaseException):
    """A SIGKILL between two statements: nothing after it runs."""


def check_gate_20_then_200(line: Line, world: World, activities: Callable[[], list[Activity]]) -> None:
    """The row of the issue: 20 then 200 on one run admit 80 and then 800 new events, stop markers at the cap."""
    first = ask(line, 1, max_events_per_output=20)
    work_until_ended(line, activities())
    assert line.sql("select count(*) from ig.admissions where event_type = any(%s)", (list(OUTPUTS),)) == [(80,)]
    second = ask(line, 2, max_events_per_output=200)
    work_until_ended(line, activities())
    assert line.sql("select count(*) from ig.admissions where event_type = any(%s)", (list(OUTPUTS),)) == [(880,)]
    check_slice(line, world, first, 0, 20, stop_reason="max_events")
    check_slice(line, world, second, 20, 220, stop_reason="max_events")


@pytest.mark.usefixtures("_gate")
def test_a_later_request_goes_on_behind_the_cursor(line: Line, world: World) -> None:
    """Capped at 20 and then at 200, one run admits 80 and then 800 new events, with a restart between."""
    check_gate_20_then_200(line, world, lambda: producer(line))
    check_marks(line)


@pytest.mark.usefixtures("_gate")
def test_a_producer_that_starts_over_silently_breaks_the_fact(
    line: Line, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass-through without a cursor turns the same check red."""
    monkeypatch.setattr(streams, "cursors", lambda *_, **__: dict.fromkeys(streams.FEEDS, 0))
    with pytest.raises(AssertionError):
        check_gate_20_then_200(line, world, lambda: producer(line))


@pytest.mark.usefixtures("_gate")
def test_a_producer_that_only_moves_its_checkpoint_breaks_the_fact(
    line: Line, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass-through that reads its requests and does nothing turns the same check red."""
    monkeypatch.setattr(producing, "STEPS_MAX", 20)
    with pytest.raises(AssertionError):
        check_gate_20_then_200(line, world, lambda: line.pass_through(WORKER))


@pytest.mark.usefixtures("_gate")
def test_a_whole_world_ends_with_its_truth_and_final_marks(line: Line, world: World) -> None:
    """Without a cap everything is sent, truth included; the last mark of each output says that the world has ended."""
    stream_id = ask(line, 1)
    work_until_ended(line, producer(line))
    check_slice(line, world, stream_id, 0, TRANSACTIONS, stop_reason="end_of_world")
    check_marks(line)
    truth = [b for b in line.bodies("truth") if b["event_type"] == "truth"]
    assert truth
    assert {b["event_id"] for b in truth} == set(world_ids(world, "truth", 0, world.count("truth")))
    for topic in (*OUTPUTS, "truth"):
        last: dict[int, dict[str, Any]] = {r.partition: orjson.loads(r.body)["payload"] for r in line.records(topic)}
        assert all(payload.get("end_of_world") for payload in last.values())


@pytest.mark.usefixtures("_gate")
def test_truth_is_sent_before_the_traffic_that_may_know_it(line: Line, world: World) -> None:
    """A label observed by time T is on the bus before any traffic of T or later, and its mark too."""
    ask(line, 1)
    work_until_ended(line, producer(line))
    rows = line.sql(
        "select topic, extract(epoch from appended_at), body from bus.log where topic in ('truth', 'traffic')"
    )
    known: list[tuple[float, str]] = []
    traffic: list[tuple[float, str]] = []
    for topic, appended, body in rows:
        event = orjson.loads(bytes(body))
        if event["event_type"] == "traffic":
            traffic.append((appended, event["occurred_at"]))
        elif topic == "truth" and event["event_type"] == "truth":
            known.append((appended, event["occurred_at"]))
    assert known
    for appended, observed_at in known:
        assert not [1 for at, occurred_at in traffic if at < appended and occurred_at >= observed_at]


@pytest.mark.usefixtures("_gate")
def test_from_start_sends_everything_again_as_duplicates(line: Line, world: World) -> None:
    """`from=start` begins at index 0 whatever the cursor says; every answer is DUPLICATE and no mark goes back."""
    ask(line, 1, max_events_per_output=100)
    work_until_ended(line, producer(line))
    before = {topic: len(line.records(topic)) for topic in (*OUTPUTS, "truth")}
    again = ask(line, 2, max_events_per_output=100, **{"from": "start"})
    work_until_ended(line, producer(line, **{"producer.round_transactions_max": 17}))
    check_slice(line, world, again, 0, 100, stop_reason="max_events")
    [(totals,)] = line.sql("select outputs from wsp.streams where stream_id = %s", (again,))
    assert {output: totals[output]["duplicate"] for output in OUTPUTS} == dict.fromkeys(OUTPUTS, 100)
    assert {topic: len(line.records(topic)) for topic in (*OUTPUTS, "truth")} == before
    assert line.sql("select sum(repeats) from ig.repeats where event_type = any(%s)", (list(OUTPUTS),)) == [(400,)]
    behind = ask(line, 3, max_events_per_output=50)
    work_until_ended(line, producer(line))
    check_slice(line, world, behind, 100, 150, stop_reason="max_events")


@pytest.mark.usefixtures("_gate")
def test_killed_at_every_boundary_the_sent_set_is_the_slice(
    line: Line, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after every POST, every intent and every commit, and restarted each time: the journal is the
    world's slice, what was sent twice is absorbed and counted, marks never go back."""
    boundaries = [(GateClient, "post"), (streams, "intend_round"), (streams, "end_round"), (streams, "begin")]
    countdown = {"left": 0}

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            step()
            answer = original(*arguments, **named)
            step()
            return answer

        def step() -> None:
            countdown["left"] -= 1
            if countdown["left"] == 0:
                raise Killed

        return call

    for owner, name in boundaries:
        monkeypatch.setattr(owner, name, deadly(getattr(owner, name)))
    stream_id = ask(line, 1, max_events_per_output=90)
    kills = 0
    for boundary in range(1, 40):
        countdown["left"] = boundary
        try:
            work_until_ended(line, producer(line))
        except Killed:
            kills += 1
        else:
            break
    countdown["left"] = -1
    work_until_ended(line, producer(line))
    assert kills >= 5
    check_slice(line, world, stream_id, 0, 90, stop_reason="max_events")
    check_marks(line)
    assert line.sql("select count(*) from ig.admissions where event_type = any(%s)", (list(OUTPUTS),)) == [(360,)]
    [(repeats,)] = line.sql("select sum(repeats) from ig.repeats")
    assert repeats > 0


def test_a_killed_process_resumes_where_its_journal_ends(line: Line, world: World, short_dir: Path) -> None:
    """A real process, SIGKILLed mid-stream several times: sent set = world slice, every event once on the bus."""
    stream_id = ask(line, 1)
    with open_gate(line):
        for wanted in (1, 60, 150, 240):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.producer_process", line.dsn, str(short_dir), str(line.ports["gate"])],
                cwd=ROOT,
                env=os.environ | {"GATE_KEY": PRODUCER_KEY},
            )
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                [(sent,)] = line.sql("select coalesce(max(next_index), 0) from wsp.streams")
                if sent >= wanted:
                    break
                time.sleep(0.005)
            process.kill()
            process.wait()
        work_until_ended(line, producer(line))
    check_slice(line, world, stream_id, 0, TRANSACTIONS, stop_reason="end_of_world")
    check_marks(line)


def test_a_gate_that_is_away_is_waited_for(line: Line, world: World) -> None:
    """No gate: a transient fault that says so; when it comes, the stream goes on and nothing is lost."""
    stream_id = ask(line, 1, max_events_per_output=60)
    activities = producer(line)
    with pytest.raises(TransientFault, match="does not answer"):
        work_until_ended(line, activities)
    activities[1].forget()
    with open_gate(line):
        work_until_ended(line, activities)
    check_slice(line, world, stream_id, 0, 60, stop_reason="max_events")


def test_retry_after_is_kept_to(line: Line, world: World) -> None:
    """After 503 the gate is left alone for as long as it asked, with its own words as the reason."""
    ask(line, 1, max_events_per_output=60)
    with open_gate(line) as gate:
        activities = producer(line)
        gate.stop.requested = True
        with pytest.raises(TransientFault, match="503"):
            work_until_ended(line, activities)
        gate.stop.requested = False
        activities[1].forget()
        with pytest.raises(TransientFault, match="waiting as the gate asked"):
            work_until_ended(line, activities)
        activities[1].forget()
        line.clock.advance(1.5)
        work_until_ended(line, activities)


def test_a_rotated_key_is_read_again(line: Line, world: World) -> None:
    """A key that is refused is read again from the secrets; the stream goes on without a restart."""
    ask(line, 1, max_events_per_output=30)
    with open_gate(line):
        activities = producer(line)
        good, line.secrets = line.secrets, {"gate": {"producer_key": "old"}}
        with pytest.raises(TransientFault, match="401"):
            work_until_ended(line, activities)
        activities[1].forget()
        line.secrets = good
        work_until_ended(line, activities)


@pytest.mark.usefixtures("_gate")
def test_a_stream_waits_until_all_it_feeds_are_ready(line: Line, world: World, short_dir: Path) -> None:
    """Not started, not ready, dead: each is named with its reason, and nothing is sent until all are ready."""
    ask(line, 1, max_events_per_output=20)
    activities = producer(line)
    beat = short_dir / "beats" / "ingestion_gate.json"
    beat.unlink()
    with pytest.raises(TransientFault, match=r"^waiting for ingestion_gate: not started$"):
        work_until_ended(line, activities)
    write_beat(short_dir, "ingestion_gate", state="waiting", reason="postgres: refused")
    with pytest.raises(TransientFault, match=r"^waiting for ingestion_gate: postgres: refused$"):
        work_until_ended(line, activities)
    assert line.sql("select count(*) from ig.admissions") == [(0,)]
    write_beat(short_dir, "ingestion_gate")
    work_until_ended(line, activities)


@pytest.mark.usefixtures("_gate")
def test_a_stream_does_not_wait_for_what_it_does_not_feed(line: Line, world: World, short_dir: Path) -> None:
    """A report that is being made, and evidence that waits for its store, hold up nobody; a database that is away does."""
    ask(line, 1, max_events_per_output=20)
    activities = producer(line)
    (short_dir / "beats" / "run_reporter.json").unlink()
    for worker in ("ingestion_gate", "decision_log_audit"):
        write_beat(short_dir, worker, state="waiting", reason="object store: EndpointConnectionError")
    write_beat(short_dir, "label_store", state="waiting", reason="postgres: no answer")
    with pytest.raises(TransientFault, match=r"^waiting for label_store: postgres: no answer$"):
        work_until_ended(line, activities)
    write_beat(short_dir, "label_store")
    work_until_ended(line, activities)


def test_no_request_is_larger_than_the_gate_takes(line: Line, world: World) -> None:
    """With a gate that takes ten events at once, rounds of 30 transactions become requests of ten, and all is admitted."""
    stream = ask(line, 1, max_events_per_output=60)
    with open_gate(line, settings={"gate.batch_events_max": 10}):
        work_until_ended(line, producer(line, **{"gate.batch_events_max": 10}))
    check_slice(line, world, stream, 0, 60, stop_reason="max_events")


@pytest.mark.usefixtures("_gate")
def test_a_world_that_is_not_there_fails_its_stream_only(line: Line, world: World) -> None:
    """The stream is FAILED with its reason, and the next request has its turn."""
    ask(line, 1, world="nowhere")
    ask(line, 2, max_events_per_output=20)
    work_until_ended(line, producer(line))
    rows = line.sql("select state, reason from wsp.streams order by ordinal")
    assert [row[0] for row in rows] == ["FAILED", "DONE"]
    assert "nowhere" in rows[0][1]


@pytest.mark.usefixtures("_gate")
def test_a_rate_is_kept_to(line: Line, world: World) -> None:
    """At 20 transactions a second, 100 transactions take five seconds of the clock, in small rounds."""
    stream_id = ask(line, 1, max_events_per_output=100, rate=20.0)
    activities = producer(line)
    began = line.clock.monotonic()
    work_until_ended(line, activities, advance_seconds=0.01)
    assert 4.5 <= line.clock.monotonic() - began <= 6.5
    check_slice(line, world, stream_id, 0, 100, stop_reason="max_events")


def test_another_copy_cannot_move_the_stream(line: Line, world: World) -> None:
    """A frozen older copy that wakes up moves nothing: its compare-and-set misses, and it stops."""
    from fraud_daemons.errors import AnotherCopyError

    ask(line, 1, max_events_per_output=90)
    with open_gate(line):
        old = producer(line)
        for activity in (old[0], old[0], old[1]):
            activity.step()
        work_until_ended(line, producer(line))
        with pytest.raises(AnotherCopyError):
            old[1].step()


def test_an_incomplete_request_is_set_aside(line: Line, world: World) -> None:
    """STREAM_READY without its fields is poison: a dead letter, and the next one is taken."""
    line.append(
        "control", [{"kind": "STREAM_READY", "stream_id": "s"}, {"kind": "REPORT_REQUESTED", "request_id": "r"}]
    )
    activities = producer(line)
    line.drain(activities[:1])
    assert line.sql("select count(*) from dead_letters.letters") == [(1,)]
