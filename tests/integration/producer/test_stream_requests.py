"""What a STREAM_READY message may be, what comes of one told twice, and the pace and end of its stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.bus.port import OutRecord
from fraud_daemons.clock import parse_iso
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.worlds.generator import make_world
from fraud_daemons.worlds.sealed import World
from tests.line import RUN, Line
from tests.producing import ask, check_slice, producer, work_until_ended


@pytest.mark.usefixtures("_gate")
def test_a_request_told_again_is_one_stream(line: Line, world: World) -> None:
    """In one batch, later, at another moment, and after its end: one row, one journal, nothing sent twice."""
    for moment in ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:09.000000Z"):
        stream_id = ask(line, 1, max_events_per_output=20, requested_at=moment)
    activities = producer(line)
    line.drain(activities[:1])
    for _ in range(50):
        activities[1].step()
    ask(line, 1, max_events_per_output=20)
    line.drain(producer(line)[:1])
    for _ in range(5):
        activities[1].step()
    assert line.sql("select count(*), min(state) from wsp.streams") == [(1, "DONE")]
    check_slice(line, world, stream_id, 0, 20, stop_reason="max_events")
    assert line.sql("select count(*) from ig.repeats") == [(0,)]
    assert line.sql("select count(*) from dead_letters.letters") == [(0,)]


@pytest.mark.usefixtures("_gate")
def test_another_request_under_the_same_id_is_set_aside(line: Line, world: World) -> None:
    """The first one stands, the other is a dead letter with its reason; the next is taken."""
    stream_id = ask(line, 1, max_events_per_output=20)
    ask(line, 1, max_events_per_output=200)
    behind = ask(line, 2, max_events_per_output=10)
    activities = producer(line)
    line.drain(activities[:1])
    for _ in range(100):
        activities[1].step()
    assert line.sql("select reason from dead_letters.letters") == [("STREAM_READY differs from the first of its id",)]
    check_slice(line, world, stream_id, 0, 20, stop_reason="max_events")
    check_slice(line, world, behind, 20, 30, stop_reason="max_events")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"world": 7}, "world must be a text"),
        ({"stream_id": ""}, "stream_id must be a text"),
        ({"platform_run_id": "x\x01"}, "platform_run_id must be a text"),
        ({"from": "middle"}, "from must be 'cursor' or 'start'"),
        ({"max_events_per_output": -5}, "max_events_per_output must be a whole number above 0"),
        ({"max_events_per_output": True}, "max_events_per_output must be a whole number above 0"),
        ({"rate": "fast"}, "rate must be a number above 0"),
        ({"speedup": 0}, "speedup must be a number above 0"),
        ({"rate": 1, "speedup": 1}, "rate and speedup exclude each other"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_set_aside(line: Line, change: dict[str, Any], said: str) -> None:
    """A dead letter that says what would be right; no stream is made, and the producer goes on."""
    line.begin_run()
    ask(line, 1, **change)
    ask(line, 2)
    line.drain(producer(line)[:1])
    [(reason, detail)] = line.sql("select reason, detail from dead_letters.letters")
    assert said in reason
    assert said in detail
    assert line.sql("select ordinal from wsp.streams") == [(2,)]


@pytest.mark.parametrize("body", [b"{no json", b"[1, 2]", b'"STREAM_READY"', b"\xff\xfe"])
def test_what_is_no_request_stops_nothing(line: Line, body: bytes) -> None:
    """Bytes that are no JSON are a dead letter, JSON that is no request is somebody else's."""
    line.begin_run()
    with line.bus.transaction() as log:
        log.append([OutRecord("control", "k", "odd", RUN, body)])
    ask(line, 1)
    line.drain(producer(line)[:1])
    assert line.sql("select count(*) from wsp.streams") == [(1,)]
    letters = line.sql("select reason from dead_letters.letters")
    assert letters == ([] if body[:1] in b'["' else [("control: no JSON",)])


@pytest.mark.usefixtures("_gate")
def test_event_time_sped_up_is_kept_to(line: Line, world: World) -> None:
    """Eighty transactions of the world, sped up so that they take five seconds of the clock, take five seconds."""
    first, last = (parse_iso(world.order_key("traffic", index)[0]) for index in (0, 79))
    speedup = (last - first).total_seconds() / 5.0
    stream_id = ask(line, 1, max_events_per_output=80, speedup=speedup)
    activities = producer(line)
    began = line.clock.monotonic()
    work_until_ended(line, activities, advance_seconds=0.02)
    assert 4.5 <= line.clock.monotonic() - began <= 7.5
    check_slice(line, world, stream_id, 0, 80, stop_reason="max_events")


@pytest.mark.usefixtures("_gate")
def test_a_world_whose_content_was_changed_fails_its_stream(line: Line, world: World, short_dir: Path) -> None:
    """One byte of a sealed file: the stream is FAILED by name, nothing of it is sent, another world has its turn."""
    file = short_dir / "worlds" / "tiny" / "traffic.blocks"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    make_world(short_dir / "worlds", name="other", transactions=30, seed=8, currency="USD")
    ask(line, 1)
    ask(line, 2, world="other")
    activities = producer(line)
    line.drain(activities[:1])
    for _ in range(100):
        activities[1].step()
    rows = line.sql("select world, state, reason from wsp.streams order by ordinal")
    assert [(name, state) for name, state, _ in rows] == [("tiny", "FAILED"), ("other", "DONE")]
    assert "traffic.blocks" in rows[0][2]
    sent = line.sql("select count(*) from ig.admissions where event_type = any(%s)", (list(OUTPUTS),))
    assert sent == [(120,)]


@pytest.mark.usefixtures("_gate")
def test_every_output_says_where_and_why_it_stopped(line: Line, world: World) -> None:
    """The last mark of each output of a capped stream: its last row and max_events, in the table and on the bus."""
    stream_id = ask(line, 1, max_events_per_output=45)
    work_until_ended(line, producer(line))
    check_slice(line, world, stream_id, 0, 45, stop_reason="max_events")
    for output in OUTPUTS:
        marks = [body["payload"] for body in line.bodies(output) if body["event_type"] == "progress_mark"]
        last = max(marks, key=lambda mark: (mark["up_to_occurred_at"], mark["up_to_source_seq"]))
        assert (last["up_to_occurred_at"], last["up_to_source_seq"]) == world.order_key("traffic", 44)
        assert (last["stop_reason"], last["end_of_world"]) == ("max_events", False)
