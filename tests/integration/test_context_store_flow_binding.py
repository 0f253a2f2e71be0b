"""context_store_flow_binding: everything leaves, in the world's order, with its context, and never because of slowness."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_daemons.domain.binding import ContextStatus, Release, ReleaseRule, release_by_budget
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.workers.rtdl_core import context_store_flow_binding as worker_module
from fraud_daemons.workers.rtdl_core.context_store_flow_binding import WORKER
from tests.context_world import SCENARIO, bound, mark, problems, send, send_marks, send_shuffled, without_anchor, world
from tests.line import RUN, Line


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
