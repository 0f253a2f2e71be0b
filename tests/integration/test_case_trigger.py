"""case_trigger: REVIEW and BLOCK decisions and failed actions, no others; ids stable over a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fraud_daemons.domain.cases import TriggerKind, trigger_id
from fraud_daemons.workers.case_labels.case_trigger import WORKER
from tests.case_labels_records import action_outcome, decision

if TYPE_CHECKING:
    from tests.line import Line

pytestmark = pytest.mark.datastore

OUTCOMES = ("ALLOW", "STEP_UP", "REVIEW", "BLOCK")
STATUSES = ("EXECUTED", "DENIED", "FAILED")


def put_input(line: Line, *, count: int = 40) -> set[str]:
    """Decisions of every outcome and action outcomes of every status; returns the trigger ids they call for."""
    decisions = [decision(n, outcome=OUTCOMES[n % 4], run=line.run) for n in range(count)]
    actions = [action_outcome(n, status=STATUSES[n % 3], run=line.run) for n in range(count)]
    line.append("decisions", decisions)
    line.append("action_outcomes", actions)
    return {
        trigger_id(line.run, TriggerKind.DECISION, d["decision_id"])
        for d in decisions
        if d["outcome"] in ("REVIEW", "BLOCK")
    } | {trigger_id(line.run, TriggerKind.ACTION_FAILED, a["intent_id"]) for a in actions if a["status"] == "FAILED"}


def assert_exactly(line: Line, expected: set[str]) -> None:
    """The fact, seen by SQL and on the bus: these triggers, each once, and no others."""
    stored = [row[0] for row in line.sql("select trigger_id from case_trigger.triggers")]
    published = [body["trigger_id"] for body in line.bodies("case_triggers")]
    assert set(stored) == expected
    assert sorted(published) == sorted(expected)


def checkpoint(line: Line) -> dict[tuple[str, int], int]:
    rows = line.sql(
        'select topic, "partition", "position" from checkpoints.positions where worker = %s', ("case_trigger",)
    )
    return {(topic, partition): position for topic, partition, position in rows}


def test_review_and_block_and_failed_actions_trigger_and_nothing_else(line: Line) -> None:
    """Of every outcome and status, exactly REVIEW, BLOCK and FAILED become triggers."""
    expected = put_input(line)
    line.work(WORKER)
    assert_exactly(line, expected)


def test_a_pass_through_is_seen(line: Line) -> None:
    """A worker that only advances its checkpoint fails the fact check."""
    expected = put_input(line)
    line.drain(line.pass_through(WORKER))
    with pytest.raises(AssertionError):
        assert_exactly(line, expected)


def test_one_trigger_per_event_is_seen(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that makes a trigger of every event fails the fact check."""
    expected = put_input(line)
    monkeypatch.setattr("fraud_daemons.domain.cases.TRIGGERING_OUTCOMES", frozenset(OUTCOMES))
    line.work(WORKER)
    with pytest.raises(AssertionError):
        assert_exactly(line, expected)


def test_the_checkpoint_stands_at_the_heads_and_moves_with_the_state(line: Line) -> None:
    """When everything is read, the checkpoint equals the heads of both topics: triggers and position commit together."""
    put_input(line)
    line.work(WORKER, settings={"loop.batch_records_max": 7})
    heads = {
        (topic, partition): position
        for topic, partition, position in line.sql(
            'select topic, "partition", next_position from bus.heads where topic = any(%s)', (list(WORKER.consumes),)
        )
    }
    assert checkpoint(line) == heads


def test_a_batch_that_fails_moves_neither_state_nor_checkpoint(line: Line) -> None:
    """An error after the triggers were written takes them back, and the checkpoint with them; the next try does all."""
    expected = put_input(line)
    activities = line.activities(WORKER)
    activities[0].step()  # claims
    before = checkpoint(line)
    line.sql("alter table bus.log add constraint closed check (topic <> 'case_triggers') not valid")
    with pytest.raises(Exception, match="closed"):
        activities[0].step()
    activities[0].forget()
    assert line.sql("select count(*) from case_trigger.triggers") == [(0,)]
    assert checkpoint(line) == before
    line.sql("alter table bus.log drop constraint closed")
    line.drain(activities)
    assert_exactly(line, expected)


def test_a_replay_from_the_beginning_adds_nothing(line: Line) -> None:
    """With fresh checkpoints the whole input is read again: same ids, nothing new in the table or on the bus."""
    expected = put_input(line)
    line.work(WORKER)
    rows = line.sql("select * from case_trigger.triggers order by trigger_id")
    line.fresh_checkpoints()
    line.clock.advance(60)
    assert line.work(WORKER) == 80
    assert_exactly(line, expected)
    assert line.sql("select * from case_trigger.triggers order by trigger_id") == rows
    assert line.sql("select count(*) from case_trigger.conflicts") == [(0,)]


def test_a_new_copy_resumes_where_the_old_one_committed(line: Line) -> None:
    """A restart in the middle reads on from the checkpoint; the triggers are the same set."""
    expected = put_input(line)
    first = line.activities(WORKER, settings={"loop.batch_records_max": 5})
    for _ in range(3):
        first[0].step()
    assert 0 < sum(checkpoint(line).values()) < 80
    line.work(WORKER)
    assert_exactly(line, expected)


def test_the_same_decision_twice_in_one_batch_is_one_trigger(line: Line) -> None:
    """A repeat inside a batch is absorbed as one over batches is."""
    line.append("decisions", [decision(1, outcome="BLOCK", run=line.run)] * 3)
    line.work(WORKER)
    assert len(line.bodies("case_triggers")) == 1


@pytest.mark.parametrize("batch", [500, 1])
def test_the_same_id_with_other_content_is_kept_apart_and_counted(line: Line, batch: int) -> None:
    """A decision that comes again with another reason changes nothing stored; the other content is kept."""
    first = decision(1, outcome="BLOCK", run=line.run)
    other = {**first, "reasons": [{"rule_id": "r9", "reason": "another story", "weight": 1}]}
    line.append("decisions", [first, other])
    line.work(WORKER, settings={"loop.batch_records_max": batch})
    assert line.sql("select reason from case_trigger.triggers") == [("reason 1",)]
    assert line.sql("select body->>'reason', seen from case_trigger.conflicts") == [("another story", 1)]
    assert len(line.bodies("case_triggers")) == 1


def test_a_broken_decision_is_set_aside_alone(line: Line) -> None:
    """One decision without its outcome becomes a dead letter with its reason; its neighbours trigger."""
    good: list[dict[str, Any]] = [decision(n, outcome="BLOCK", run=line.run, card="same") for n in range(9)]
    broken = decision(99, outcome="BLOCK", run=line.run, card="same")
    del broken["outcome"]
    line.append("decisions", [*good[:4], broken, *good[4:]])
    line.work(WORKER)
    assert len(line.bodies("case_triggers")) == 9
    letters = line.sql("select worker, topic, reason, detail from dead_letters.letters")
    assert [(worker, topic) for worker, topic, _, _ in letters] == [("case_trigger", "decisions")]
    assert "outcome" in letters[0][3]
