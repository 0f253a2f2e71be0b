"""label_store: as-of reads, corrections that supersede, labels = truth feed as sets, marks behind what they cover."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from fraud_daemons.bus.port import OutRecord
from fraud_daemons.domain.cases import Disposition, case_id, resolved_entry
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.domain.labels import as_of
from fraud_daemons.state import labels
from fraud_daemons.workers.case_labels.label_store import WORKER
from tests.case_labels_records import at, flow, truth, truth_mark

if TYPE_CHECKING:
    from tests.line import Line


def put_truth(line: Line, *, count: int = 60) -> list[dict[str, Any]]:
    """A truth feed of `count` flows in order of observed time, the first ten corrected later."""
    events = [truth(n, fraud=n % 5 == 0, run=line.run) for n in range(count)]
    events += [truth(n, fraud=n % 5 != 0, run=line.run, observed=5000 + n, correction=1) for n in range(10)]
    line.append("truth", events)
    return events


def label_at(line: Line, number: int, time: str) -> str | None:
    """The label of flow `number` as of a time, read as the command does."""
    with line.database.scope() as connection:
        found = as_of(labels.assertions_of(connection, line.run, flow(number)), time)
    return None if found is None else str(found["value"])


def assert_as_observed(line: Line, events: list[dict[str, Any]]) -> None:
    """The fact: labels = truth feed as sets; before its observed time each is unknown, at it and after it is known."""
    stored = {row[0] for row in line.sql("select source_event_id from label_store.assertions")}
    assert stored == {event["event_id"] for event in events}
    published = [body["label_id"] for body in line.bodies("labels")]
    assert len(published) == len(set(published)) == len(events)
    for event in events:
        number, correction = event["source_seq"], event["payload"]["correction"]
        value = "FRAUD" if event["payload"]["fraud"] else "LEGIT"
        if correction == 0:
            assert label_at(line, number, at(number + 999)) is None
        else:
            assert label_at(line, number, at(4999 + number)) != value
        assert label_at(line, number, event["occurred_at"]) == value


@pytest.mark.parametrize("batch", [500, 7])
def test_labels_equal_the_truth_feed_and_are_known_from_their_observed_time(line: Line, batch: int) -> None:
    """Every truth event is one label, unknown before it was observed."""
    events = put_truth(line)
    line.work(WORKER, settings={"loop.batch_records_max": batch})
    assert_as_observed(line, events)


def test_a_pass_through_is_seen(line: Line) -> None:
    """A worker that only advances its checkpoint fails the fact check."""
    events = put_truth(line)
    line.drain(line.pass_through(WORKER))
    with pytest.raises(AssertionError):
        assert_as_observed(line, events)


def test_a_store_that_overwrites_is_seen(line: Line) -> None:
    """A store that keeps one row per flow fails the fact check: the superseded assertion is gone."""
    events = put_truth(line)
    line.work(WORKER)
    line.sql("alter table label_store.assertions disable trigger append_only")
    line.sql("delete from label_store.assertions where label_id in (select supersedes from label_store.assertions)")
    with pytest.raises(AssertionError):
        assert_as_observed(line, events)


def test_a_correction_supersedes_and_both_stay_readable(line: Line) -> None:
    """Between the two observed times the first holds, after the second the second; the history shows both."""
    line.append(
        "truth", [truth(1, fraud=True, run=line.run), truth(1, fraud=False, run=line.run, observed=2000, correction=1)]
    )
    line.work(WORKER)
    assert [label_at(line, 1, at(second)) for second in (1000, 1001, 1999, 2000)] == [None, "FRAUD", "FRAUD", "LEGIT"]
    with line.database.scope() as connection:
        first, second = labels.assertions_of(connection, line.run, flow(1))
    assert (first["value"], first["fraud_type"], first["supersedes"]) == ("FRAUD", "lost card", None)
    assert (second["value"], second["fraud_type"], second["supersedes"]) == ("LEGIT", None, first["label_id"])


def test_a_replay_from_the_beginning_adds_nothing(line: Line) -> None:
    """With fresh checkpoints the whole feed is read again, marks too: same rows, nothing more on the bus."""
    events = put_truth(line)
    put_marks(line, 9000)
    line.work(WORKER)
    before = line.sql("select * from label_store.assertions order by label_id"), len(line.records("labels"))
    line.fresh_checkpoints()
    line.clock.advance(60)
    assert line.work(WORKER) == len(events) + 3
    assert (line.sql("select * from label_store.assertions order by label_id"), len(line.records("labels"))) == before
    assert line.sql("select count(*) from label_store.conflicts") == [(0,)]


def test_marks_follow_the_labels_they_cover_on_every_partition(line: Line) -> None:
    """On each partition of `labels` a mark stands behind every label observed up to it and before every later one."""
    for second in range(0, 60, 20):
        line.append("truth", [truth(n, fraud=True, run=line.run) for n in range(second, second + 20)])
        put_marks(line, second + 1019)
    line.work(WORKER)
    seen: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for record, body in zip(line.records("labels"), line.bodies("labels"), strict=True):
        if body.get("event_type") == "progress_mark":
            seen[record.partition].append(("mark", body["payload"]["up_to_occurred_at"]))
        else:
            seen[record.partition].append(("label", body["observed_time"]))
    assert set(seen) == {0, 1, 2}
    for items in seen.values():
        assert [time for kind, time in items if kind == "mark"] == [at(1019), at(1039), at(1059)]
        for place, (kind, time) in enumerate(items):
            if kind == "mark":
                assert all(other <= time for what, other in items[:place] if what == "label")
                assert all(other > time for what, other in items[place:] if what == "label")


def test_a_resolution_becomes_a_human_label_that_outranks_the_feed(line: Line) -> None:
    """FRAUD labels each flow of the case from the moment of the resolution, whatever the feed says; INCONCLUSIVE none."""
    line.append("truth", [truth(1, fraud=False, run=line.run)])
    line.append("case_events", [resolution(line, [1, 2], "FRAUD", 3000), resolution(line, [3], "INCONCLUSIVE", 3000)])
    line.append("case_events", [{"case_id": "c", "platform_run_id": line.run, "entry": 1, "kind": "OPENED"}])
    line.work(WORKER)
    assert [label_at(line, 1, at(second)) for second in (1001, 2999, 3000)] == ["LEGIT", "LEGIT", "FRAUD"]
    assert (label_at(line, 2, at(2999)), label_at(line, 2, at(3000))) == (None, "FRAUD")
    assert label_at(line, 3, at(9000)) is None
    assert line.sql("select source, count(*) from label_store.assertions group by source order by source") == [
        ("EXTERNAL", 1),
        ("HUMAN", 2),
    ]


def test_the_same_truth_with_other_content_is_kept_apart(line: Line) -> None:
    """A truth event that says otherwise without being a correction changes nothing stored; it is kept and counted."""
    line.append("truth", [truth(1, fraud=True, run=line.run), truth(1, fraud=False, run=line.run)])
    line.work(WORKER)
    assert line.sql('select "value" from label_store.assertions') == [("FRAUD",)]
    assert line.sql("select body->>'value', seen from label_store.conflicts") == [("LEGIT", 1)]
    assert len(line.records("labels")) == 1


def test_assertions_refuse_to_be_rewritten(line: Line) -> None:
    """The database itself refuses an update or a deletion of an assertion."""
    line.append("truth", [truth(1, fraud=True, run=line.run)])
    line.work(WORKER)
    for statement in ("update label_store.assertions set source = 'AUTO'", "delete from label_store.assertions"):
        with pytest.raises(psycopg.Error, match="append-only"):
            line.sql(statement)


def test_a_broken_truth_event_is_set_aside_alone(line: Line) -> None:
    """An impossible date becomes a dead letter; its neighbours become labels."""
    broken = truth(99, fraud=True, run=line.run)
    broken["payload"]["effective_time"] = "2018-02-31T00:00:00.000000Z"
    line.append(
        "truth", [truth(1, fraud=True, run=line.run), broken, truth(2, fraud=True, run=line.run)], key=lambda _: "k"
    )
    line.work(WORKER)
    assert line.sql("select count(*) from label_store.assertions") == [(2,)]
    assert line.sql("select event_id from dead_letters.letters") == [(broken["event_id"],)]


def put_marks(line: Line, second: int) -> None:
    """A mark of the truth feed on every one of its partitions, as the gate appends it."""
    mark = truth_mark(second, run=line.run)
    keys = ("7", "2", "0")  # one per partition of three
    with line.bus.transaction() as log:
        places = log.append([OutRecord("truth", key, mark["event_id"], line.run, canonical_json(mark)) for key in keys])
    assert [place and place[0] for place in places] == [0, 1, 2]


def resolution(line: Line, numbers: list[int], disposition: str, second: int) -> dict[str, Any]:
    return resolved_entry(
        case=case_id(line.run, "card", f"c{numbers[0]}", 1),
        platform_run_id=line.run,
        entry=2,
        actor="anna",
        disposition=Disposition(disposition),
        flows=[{"flow_id": flow(n), "occurred_at": at(n)} for n in numbers],
        at=at(second),
    )
