"""Trimming of the bus: only what everybody has passed and the archive holds goes, and whoever still needs it is told."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fraud_daemons.acceptance.archive import archived_from
from fraud_daemons.acceptance.tracing import trace
from fraud_daemons.errors import FatalFault
from fraud_daemons.evidence.archive_lines import packed, unpacked
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import trimming
from fraud_daemons.supervision.substrate.objectstore import ObjectStore, client_for
from fraud_daemons.workers.case_labels import case_trigger
from fraud_daemons.workers.rtdl_core import archive_writer
from fraud_daemons.workers.rtdl_core._trimming import Trimmer
from tests.integration.planted_defects import Objects
from tests.integration.test_strangers_check import run_script
from tests.integration.whole_line import TRANSACTIONS, ask_for_report, finish, reporter, stream_the_world
from tests.line import Line

AT_ONCE = {
    "trim.log_age_seconds": 0.0, "trim.interval_seconds": 0.05,
    "evidence.linger_seconds": 0.0, "evidence.segment_records_max": 20,
}  # fmt: skip
TOPICS = ("decisions", "labels")


def feed(line: Line, count: int, *, topics: tuple[str, ...] = TOPICS, size: int = 10) -> None:
    for topic in topics:
        line.append(
            topic, [{"platform_run_id": line.run, "n": n, "text": "x" * size} for n in range(count)],
            key=lambda body: f"k{body['n']}", event_id=lambda body, topic=topic: f"{topic}-{body['n']}",
        )  # fmt: skip


@pytest.fixture
def line_(line: Line) -> Line:
    """A line whose run is its own: object stores outlive a test."""
    line.run = f"platform_20260101T{uuid.uuid4().int % 10**6:06}Z"
    return line


def archive(line: Line, **settings: Any) -> list[Activity]:
    return line.activities(archive_writer.WORKER, settings={**AT_ONCE, **settings})


def kept(line: Line) -> int:
    return int(line.sql("select count(*) from bus.log")[0][0])


def beginnings(line: Line) -> dict[tuple[str, int], int]:
    with line.bus.transaction() as log:
        return dict(log.beginnings(["decisions"]).items())


def as_owner(store: ObjectStore) -> Objects:
    return Objects(client_for(store.endpoint, store.access_key, store.secret_key), store.bucket)


def told(activities: list[Activity]) -> dict[str, Any]:
    [trimmer] = [activity for activity in activities if isinstance(activity, Trimmer)]
    log: dict[str, Any] = trimmer.detail()["log"]
    return log


def last_objects(line: Line, topic: str) -> int:
    """How many records the newest archive objects of a topic's partitions hold: those stay."""
    rows = line.sql(
        'select distinct on ("partition") records from archive.segments where topic = %s order by "partition", first_position desc',
        (topic,),
    )
    assert len(rows) == 3
    return sum(records for (records,) in rows)


def only_the_newest_stay(line: Line, topic: str) -> bool:
    return len(line.records(topic)) == last_objects(line, topic)


def whole(line: Line) -> None:
    """What was trimmed and what is there are all that was ever appended, each once, without a gap."""
    wrong = line.sql(
        'select topic, "partition" from bus.heads left join bus.beginnings b using (topic, "partition") where'
        " next_position - coalesce(b.first_position, 0) <> (select count(*) from bus.log l where l.topic = heads.topic and"
        ' l."partition" = heads."partition" and l."position" >= coalesce(b.first_position, 0)) or coalesce(b.first_position, 0)'
        ' <> (select coalesce(sum(records), 0) from bus.trimmed t where t.topic = heads.topic and t."partition" = heads."partition")'
        ' or exists (select from bus.log l where l.topic = heads.topic and l."partition" = heads."partition"'
        ' and l."position" < coalesce(b.first_position, 0))'
    )
    assert wrong == []


def test_what_everybody_has_passed_goes_and_the_newest_stays(line_: Line) -> None:
    """With the archive as the only reader everything goes but what shares an object with a partition's newest record."""
    feed(line_, 100)
    activities = archive(line_)
    line_.drain(activities)
    assert [only_the_newest_stay(line_, topic) for topic in TOPICS] == [True, True]
    assert told(activities) == {"kept": kept(line_), "trimmed": 200 - kept(line_), "held_back": {}}
    assert kept(line_) < 100
    whole(line_)


def test_a_stopped_consumer_holds_trimming_back_and_is_named(line_: Line) -> None:
    """A reader that does not move keeps every record it still needs; when it has read them they go."""
    line_.drain(line_.pass_through(case_trigger.WORKER))
    feed(line_, 90)
    activities = archive(line_)
    line_.drain(activities)
    assert told(activities)["held_back"] == {"decisions": "case_trigger"}
    assert [record.position for record in line_.records("decisions") if record.position == 0] == [0, 0, 0]
    assert only_the_newest_stay(line_, "labels"), "nobody else reads labels here"
    line_.drain(line_.pass_through(case_trigger.WORKER))
    line_.drain(activities)
    assert (only_the_newest_stay(line_, "decisions"), told(activities)["held_back"]) == (True, {})
    whole(line_)


def test_a_worker_that_has_not_begun_holds_trimming_back(line_: Line) -> None:
    """The packs say that it reads the topic; before its first checkpoint nothing of it goes."""
    with line_.database.scope() as connection:
        trimming.subscribe(connection, [("decisions", "case_trigger"), ("labels", "archive_writer")])
    feed(line_, 90)
    activities = archive(line_)
    line_.drain(activities)
    assert told(activities)["held_back"] == {"decisions": "case_trigger"}
    assert (len(line_.records("decisions")), only_the_newest_stay(line_, "labels")) == (90, True)


def test_young_records_stay_until_there_are_too_many(line_: Line) -> None:
    """By age nothing of today goes; beyond the bound on records the oldest go whatever their age."""
    feed(line_, 1500)
    activities = archive(line_, **{"trim.log_age_seconds": 3600.0})
    line_.drain(activities)
    assert told(activities)["trimmed"] == 0
    activities = archive(line_, **{"trim.log_age_seconds": 3600.0, "trim.log_records_max": 1000})
    line_.drain(activities)
    assert 900 < kept(line_) <= 1000
    whole(line_)
    activities = archive(line_, **{"trim.log": False})
    line_.drain(activities)
    assert told(activities)["trimmed"] == 0, "trim.log = false trims nothing"


def test_truth_stays_until_its_marks_have_been_read_from_labels(line_: Line) -> None:
    """Whether a world has a truth feed is asked of the truth topic until a mark has come on labels."""
    feed(line_, 90, topics=("truth", "labels"))
    line_.sql(
        "insert into checkpoints.positions (worker, topic, \"partition\") select 'plane', 'labels', p from generate_series(0, 2) p"
    )
    activities = archive(line_)
    line_.drain(activities)
    assert told(activities)["held_back"] == {"truth": "plane on labels", "labels": "plane"}
    line_.sql("update checkpoints.positions set \"position\" = 1000 where worker = 'plane'")
    line_.drain(activities)
    assert only_the_newest_stay(line_, "truth")
    assert only_the_newest_stay(line_, "labels")


def test_a_reader_whose_position_was_trimmed_away_is_refused_by_name(line_: Line) -> None:
    """Forced: a consumer and a sealer that stand before the beginning read nothing, move nothing and name the place."""
    feed(line_, 90)
    line_.drain(archive(line_))
    for activities in (line_.pass_through(case_trigger.WORKER), archive(line_)):
        if isinstance(activities[-1], Trimmer):
            line_.sql("update checkpoints.positions set \"position\" = 0 where worker = 'archive_writer.archive'")
        before = line_.sql(
            "select worker, topic, \"position\" from checkpoints.positions where worker not like '%.trim' order by 1, 2, 3"
        )
        with pytest.raises(FatalFault, match=r"decisions partition 0 was trimmed up to \d+ and this reader") as met:
            read_on(line_, activities[0])
        assert met.value.reason.startswith("bus: decisions begins at ")
        after = line_.sql(
            "select worker, topic, \"position\" from checkpoints.positions where worker not like '%.trim' order by 1, 2, 3"
        )
        assert [row for row in after if row[0] != "case_trigger"] == [row for row in before if row[0] != "case_trigger"]
        assert {row[2] for row in after if row[0] == "case_trigger"} == {0}


def read_on(line: Line, activity: Activity) -> None:
    for _ in range(20):
        activity.step()
        line.clock.advance(1.0)


@pytest.mark.parametrize("spoil", ["gone", "other bytes", "a record too many on the bus"])
def test_what_the_archive_does_not_hold_stays(line_: Line, object_store: ObjectStore, spoil: str) -> None:
    """An object that is missing or was changed, a row that the object does not have: the stretch stays and is named."""
    feed(line_, 90, topics=("decisions",))
    line_.drain(archive(line_, **{"trim.log": False}))
    [first] = line_.sql(
        "select object_key, last_position, \"partition\" from archive.segments where topic = 'decisions'"
        ' order by "partition", first_position limit 1'
    )
    objects = as_owner(object_store)
    if spoil == "gone":
        objects.delete(first[0])
    elif spoil == "other bytes":
        objects.put(first[0], b"other")
    else:
        line_.sql(
            "update bus.log set event_id = 'another' where topic = 'decisions' and \"partition\" = 0 and \"position\" = 3"
        )
    activities = archive(line_)
    line_.drain(activities)
    assert set(told(activities)["held_back"]) == {"decisions"}
    begins = {p: at for (_, p), at in beginnings(line_).items()}
    assert begins[0] == 0
    assert min(begins[1], begins[2]) > 0, "the others go"
    whole(line_)


class Cut(Exception):
    """The process ends here."""


@contextmanager
def cut_at(statement: int) -> Iterator[Callable[[], int]]:
    """The process ends right before its n-th statement; gives how many there were."""
    from fraud_daemons.postgres_runtime import connector

    done, real = [0], connector.Connection.execute

    def execute(self: Any, *words: Any, **named: Any) -> Any:
        done[0] += 1
        if done[0] == statement:
            raise Cut
        return real(self, *words, **named)

    connector.Connection.execute = execute  # type: ignore[method-assign, assignment]
    try:
        yield lambda: done[0]
    finally:
        connector.Connection.execute = real  # type: ignore[method-assign]


def test_killed_before_every_statement_nothing_is_lost_or_noted_twice(line_: Line) -> None:
    """Whatever statement is the last one of a process, the log, its beginnings and the notes agree; the next one goes on."""
    feed(line_, 90)
    line_.drain(archive(line_, **{"trim.log": False}))
    statement = 0
    while True:
        statement += 1
        [trimmer] = [activity for activity in archive(line_) if isinstance(activity, Trimmer)]
        with cut_at(statement) as count, suppress(Cut):
            while trimmer.step().records:
                pass
            break
        whole(line_)
    assert statement > 10
    assert count() < statement
    whole(line_)
    assert all(only_the_newest_stay(line_, topic) for topic in TOPICS)


def test_space_is_used_again(line_: Line) -> None:
    """Five times as many records through the bus take no more room than the first fifth: pages become free as a whole."""
    sizes = []
    for _ in range(5):
        feed(line_, 1500, topics=("decisions",), size=1500)
        line_.drain(archive(line_, **{"evidence.segment_records_max": 500}))
        with psycopg.connect(line_.dsn, autocommit=True) as connection:
            connection.execute("vacuum bus.log")  # what autovacuum does, now
            sizes.append(connection.execute("select pg_total_relation_size('bus.log')").fetchone()[0])  # type: ignore[index]
    assert only_the_newest_stay(line_, "decisions")
    assert sizes[-1] <= 1.25 * max(sizes[:2]), sizes
    [(options,)] = line_.sql("select reloptions from pg_class where oid = 'bus.log'::regclass")
    assert "autovacuum_vacuum_scale_factor=0.05" in options


def test_the_report_of_a_run_holds_when_its_records_were_trimmed(
    line: Line, short_dir: Path, object_store: ObjectStore
) -> None:
    """The whole line, everything trimmed: every equation holds with the same counts, its bus sides read from the archive as
    far as the hash of what was deleted proves it. A line taken out of an archive object is then named."""
    stream_the_world(line, short_dir)
    finish(line, settings={**AT_ONCE, "trim.log": False})
    before = ask_for_report(line, reporter(line), 1)
    line.drain(archive(line))
    trimmed = line.sql("select coalesce(sum(records), 0) from bus.trimmed where platform_run_id = %s", (line.run,))[0][
        0
    ]
    assert trimmed > 5 * TRANSACTIONS
    after = ask_for_report(line, reporter(line), 2)
    assert before is not None
    assert after is not None
    assert after["verdict"] == "PASS", [e for e in after["equations"] if e["missing"] or e["surplus"]]
    counts = [
        {e["name"]: e["count"] for e in r["equations"] if e["name"] != "reports_equal_report_objects"}
        for r in (before, after)
    ]
    assert counts[0] == counts[1]
    assert after["elapsed_seconds"] is not None
    with line.database.scope() as connection:
        at = lambda _name: connection  # noqa: E731
        archived = archived_from(at, line.make_store)
        [(event_id, flow_id)] = line.sql("select arrival_event_id, taken_by from csfb.frames where taken_by in (select flow_id"
                                         " from csfb.bindings order by arrival_events_position limit 1)")  # fmt: skip
        first = trace(at, line.run, event_id)
        assert first is not None
        assert first["flow_id"] is None, (
            "its record is not on the bus, and without the archive nobody knows of whom it speaks"
        )
        traced = trace(at, line.run, event_id, archived=archived)
    assert traced is not None
    assert traced["flow_id"] == flow_id
    stranger = run_script(line, object_store)
    assert stranger.returncode == 0, stranger.stdout + stranger.stderr
    a_changed_archive_is_named(line, object_store)
    assert run_script(line, object_store).stdout.endswith("says FAIL: the same, line by line\n")


def a_changed_archive_is_named(line: Line, object_store: ObjectStore) -> None:
    """A line taken out of an object whose records are no longer on the bus."""
    key, first = line.sql(
        "select object_key, first_position from archive.segments where topic = 'decisions' and platform_run_id = %s"
        ' and records > 1 order by "partition", first_position limit 1',
        (line.run,),
    )[0]
    objects = as_owner(object_store)
    objects.put(key, packed(list(unpacked(objects.get(key)))[1:]))
    report = ask_for_report(line, reporter(line), 3)
    assert report is not None
    found = {e["name"]: e for e in report["equations"] if e["missing"] or e["surplus"]}
    assert report["verdict"] == "FAIL"
    assert found["decided_equals_published"]["missing"] == 1
    assert any(f"decisions|0|{first}-" in text for text in found["published_equals_archived"]["examples"])
