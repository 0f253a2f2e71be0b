"""case_management: cases equal the merge rule, recomputed here from the triggers."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from fraud_daemons.clock import iso
from fraud_daemons.domain.cases import Disposition, EntryKind, case_id, note_entry, resolved_entry
from fraud_daemons.state import cases
from fraud_daemons.workers.case_labels.case_management import WORKER
from tests.case_labels_records import flow, trigger

if TYPE_CHECKING:
    from tests.line import Line

Key = tuple[str, str]


def put_triggers(line: Line, *, count: int = 60) -> list[dict[str, Any]]:
    """Triggers over ten cards and, every seventh, an unknown card; returned in the order in which they stand."""
    line.append(
        "case_triggers",
        [trigger(n, run=line.run, card=None if n % 7 == 0 else f"card{n % 10}") for n in range(count)],
    )
    return line.bodies("case_triggers")


def recomputed(triggers: list[dict[str, Any]]) -> dict[Key, list[str]]:
    """The stated rule, written again by the test: while nothing is resolved, one case per subject with all its triggers."""
    expected: dict[Key, list[str]] = defaultdict(list)
    for body in triggers:
        expected[body["subject_kind"], body["subject"]].append(body["trigger_id"])
    return dict(expected)


def assert_merged(line: Line, triggers: list[dict[str, Any]]) -> None:
    """The fact: each subject has one open case, its timeline is its triggers in order, and the bus says the same."""
    expected = recomputed(triggers)
    rows = line.sql("select subject_kind, subject, case_id, ordinal, status, triggers, last_entry from case_mgmt.cases")
    assert {(kind, subject) for kind, subject, *_ in rows} == set(expected)
    assert len(rows) == len(expected)
    for kind, subject, case, ordinal, status, count, last_entry in rows:
        mine = expected[kind, subject]
        assert (case, ordinal, status) == (case_id(line.run, kind, subject, 1), 1, "OPEN")
        assert count == last_entry == len(mine)
        entries = line.sql(
            "select entry, kind, body->>'trigger_id' from case_mgmt.timeline where case_id = %s order by entry", (case,)
        )
        kinds = ["OPENED"] + ["MERGED"] * (len(mine) - 1)
        assert entries == list(zip(range(1, len(mine) + 1), kinds, mine, strict=True))
    placed = line.sql("select trigger_id from case_mgmt.placements")
    assert sorted(row[0] for row in placed) == sorted(t for mine in expected.values() for t in mine)
    published: dict[Key, list[str]] = defaultdict(list)
    for body in line.bodies("case_events"):
        published[body["subject_kind"], body["subject"]].append(body["trigger_id"])
    assert published == expected


@pytest.mark.parametrize("batch", [500, 7, 1])
def test_cases_equal_the_merge_rule_recomputed_from_the_triggers(line: Line, batch: int) -> None:
    """Whatever the size of a batch, several triggers of one subject in it merge in their order."""
    triggers = put_triggers(line)
    line.work(WORKER, settings={"loop.batch_records_max": batch})
    assert_merged(line, triggers)


def test_a_pass_through_is_seen(line: Line) -> None:
    """A worker that only advances its checkpoint fails the fact check."""
    triggers = put_triggers(line)
    line.drain(line.pass_through(WORKER))
    with pytest.raises(AssertionError):
        assert_merged(line, triggers)


def test_one_case_per_trigger_is_seen(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that opens a case for every trigger fails the fact check."""
    from fraud_daemons.domain.cases import SubjectCase, place

    def never_merge(body: dict[str, Any], latest: SubjectCase | None) -> Any:
        closed = None if latest is None else SubjectCase(latest.ordinal, is_open=False, last_entry=latest.last_entry)
        return place(body, closed)

    triggers = put_triggers(line)
    line.sql("drop index case_mgmt.cases_one_open")  # the database would refuse it
    monkeypatch.setattr("fraud_daemons.workers.case_labels.case_management.place", never_merge)
    line.work(WORKER)
    with pytest.raises(AssertionError):
        assert_merged(line, triggers)


def test_a_replay_from_the_beginning_adds_nothing(line: Line) -> None:
    """With fresh checkpoints every trigger is read again and absorbed: same rows, nothing more on the bus."""
    triggers = put_triggers(line)
    line.work(WORKER)
    before = line.sql("select * from case_mgmt.cases order by case_id")
    line.fresh_checkpoints()
    line.clock.advance(60)
    assert line.work(WORKER) == 60
    assert_merged(line, triggers)
    assert line.sql("select * from case_mgmt.cases order by case_id") == before
    assert line.sql("select count(*) from case_mgmt.conflicts") == [(0,)]


def test_the_same_trigger_with_other_content_is_kept_apart(line: Line) -> None:
    """A repeated trigger id with another reason moves no case; the other content is kept and counted."""
    first = trigger(1, run=line.run, card="c")
    line.append("case_triggers", [first, {**first, "reason": "another story"}])
    line.work(WORKER)
    assert_merged(line, [first])
    assert line.sql("select body->>'reason', seen from case_mgmt.conflicts") == [("another story", 1)]


def test_runs_do_not_share_cases(line: Line) -> None:
    """The same card in two runs has a case in each."""
    other = "platform_20260102T000000Z"
    line.append("case_triggers", [trigger(1, run=line.run, card="c"), trigger(1, run=other, card="c")])
    line.work(WORKER)
    assert sorted(line.sql("select platform_run_id, ordinal from case_mgmt.cases")) == [(line.run, 1), (other, 1)]


def test_a_resolved_case_is_followed_by_the_next_ordinal(line: Line) -> None:
    """After RESOLVED the subject's next trigger opens another case; the first keeps its timeline."""
    line.append("case_triggers", [trigger(1, run=line.run, card="c")])
    line.work(WORKER)
    first = case_id(line.run, "card", "c", 1)
    assert resolve(line, first, version=1) == 2
    line.append("case_triggers", [trigger(2, run=line.run, card="c"), trigger(3, run=line.run, card="c")])
    line.work(WORKER)
    rows = line.sql("select ordinal, status, triggers, last_entry from case_mgmt.cases order by ordinal")
    assert rows == [(1, "RESOLVED", 1, 2), (2, "OPEN", 2, 2)]
    kinds = line.sql("select kind from case_mgmt.timeline where case_id = %s order by entry", (first,))
    assert kinds == [("OPENED",), ("RESOLVED",)]


def test_of_people_who_saw_the_same_version_one_wins(line: Line) -> None:
    """Eight people resolve one case at once from the same version: one entry, seven are told nothing was changed."""
    line.append("case_triggers", [trigger(1, run=line.run, card="c")])
    line.work(WORKER)
    case = case_id(line.run, "card", "c", 1)
    answers = at_once(8, lambda _: resolve(line, case, version=1))
    assert sorted(answers, key=str) == [2, *[None] * 7]
    assert line.sql("select count(*) from case_mgmt.timeline where kind = 'RESOLVED'") == [(1,)]


def test_notes_and_merges_at_once_lose_nothing(line: Line) -> None:
    """Six people write ten notes each while triggers merge into the same case: every entry is there, without gap or double."""
    line.append("case_triggers", [trigger(n, run=line.run, card="c") for n in range(40)])
    worker = line.activities(WORKER, settings={"loop.batch_records_max": 4})
    for _ in range(2):
        worker[0].step()  # claim, then open the case
    case = case_id(line.run, "card", "c", 1)
    people = threading.Thread(target=lambda: at_once(6, lambda person: [note(line, case, person) for _ in range(10)]))
    people.start()
    line.drain(worker)
    people.join()
    entries = [row[0] for row in line.sql("select entry from case_mgmt.timeline order by entry")]
    assert entries == list(range(1, 101))
    assert line.sql("select triggers, last_entry from case_mgmt.cases") == [(40, 100)]
    assert line.sql("select count(*) from case_mgmt.timeline where kind = 'NOTE'") == [(60,)]


def test_a_trigger_seen_by_nobody_stops_a_resolution(line: Line) -> None:
    """A resolution names the version its author saw; a trigger merged since then makes it void."""
    line.append("case_triggers", [trigger(1, run=line.run, card="c")])
    line.work(WORKER)
    line.append("case_triggers", [trigger(2, run=line.run, card="c")])
    line.work(WORKER)
    assert resolve(line, case_id(line.run, "card", "c", 1), version=1) is None
    assert line.sql("select status from case_mgmt.cases") == [("OPEN",)]


def test_the_timeline_refuses_to_be_rewritten(line: Line) -> None:
    """The database itself refuses an update or a deletion of a timeline entry."""
    line.append("case_triggers", [trigger(1, run=line.run, card="c")])
    line.work(WORKER)
    for statement in ("update case_mgmt.timeline set kind = 'NOTE'", "delete from case_mgmt.timeline"):
        with pytest.raises(psycopg.Error, match="append-only"):
            line.sql(statement)


def test_a_broken_trigger_is_set_aside_alone(line: Line) -> None:
    """One trigger without a subject becomes a dead letter; its neighbours are placed."""
    good = [trigger(n, run=line.run, card="c") for n in range(6)]
    broken = {**trigger(9, run=line.run, card="c"), "subject": None}
    line.append("case_triggers", [*good[:3], broken, *good[3:]], key=lambda _: "c")
    line.work(WORKER)
    assert line.sql("select triggers from case_mgmt.cases") == [(6,)]
    assert line.sql("select worker, topic from dead_letters.letters") == [("case_management", "case_triggers")]


def resolve(line: Line, case: str, *, version: int) -> int | None:
    """What a person's resolution does; the entry number, or None when it was void."""
    with line.database.scope() as connection:
        entry = cases.change(
            connection,
            platform_run_id=line.run,
            case_id=case,
            kind=EntryKind.RESOLVED,
            at=line.clock.now(),
            expected_version=version,
            disposition="FRAUD",
        )
        if entry is not None:
            body = resolved_entry(
                case=case,
                platform_run_id=line.run,
                entry=entry,
                actor="anna",
                disposition=Disposition.FRAUD,
                flows=[{"flow_id": flow(1), "occurred_at": iso(line.clock.now())}],
                at=iso(line.clock.now()),
            )
            cases.append_entry(connection, body, at=line.clock.now())
    return entry


def note(line: Line, case: str, person: int) -> None:
    with line.database.scope() as connection:
        now = line.clock.now()
        entry = cases.change(connection, platform_run_id=line.run, case_id=case, kind=EntryKind.NOTE, at=now)
        assert entry is not None
        body = note_entry(
            case=case, platform_run_id=line.run, entry=entry, actor=f"p{person}", text="seen", at=iso(now)
        )
        cases.append_entry(connection, body, at=now)


def at_once(count: int, act: Any) -> list[Any]:
    """`act(n)` in `count` threads that start together; every answer, errors raised."""
    from fraud_daemons.postgres_runtime.connector import close_thread_connections

    gate, answers, errors = threading.Barrier(count), [], []

    def run(number: int) -> None:
        try:
            gate.wait(10)
            answers.append(act(number))
        except Exception as error:  # shown by the test, not lost in a thread
            errors.append(error)
        finally:
            close_thread_connections()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    return answers
