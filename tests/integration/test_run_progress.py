"""Who is behind on a run: told by the run's own records, whatever flows beside it and whatever moves while it is asked."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg

from fraud_daemons.acceptance.reporting import render_report
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.state import progress, trimming
from fraud_daemons.state.progress import Behind
from fraud_daemons.workers.case_labels.case_management import WORKER as CASE_MANAGEMENT
from fraud_daemons.workers.case_labels.case_trigger import WORKER as CASE_TRIGGER
from fraud_daemons.workers.case_labels.label_store import WORKER as LABEL_STORE
from tests.case_labels_records import decision
from tests.integration.whole_line import ask_for_report, reporter
from tests.line import AdvanceOnly, Line

OLD, NEW = "platform_20250101T000000Z", "platform_20250601T000000Z"
RUNS = (OLD, NEW, "platform_20250301T000000Z")
READERS = ("case_trigger", "decision_log_audit", "label_store", "archive_writer.archive")
RECORDS = 60


class Watched:
    """A connection that calls somebody before each statement, and keeps what the log was asked for."""

    def __init__(self, connection: psycopg.Connection[Any], before: Callable[[int], None]) -> None:
        self._connection, self._before = connection, before
        self.statements = 0
        self.ranges: list[tuple[int, int]] = []

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        self._before(self.statements)
        self.statements += 1
        if isinstance(parameters, dict) and "stands" in parameters:
            self.ranges.append((parameters["first"], parameters["end"]))
        return self._connection.execute(statement, parameters)


@contextmanager
def watched(dsn: str, before: Callable[[int], None] = lambda _: None) -> Iterator[tuple[ConnectionOf, Watched]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        seen = Watched(connection, before)
        yield lambda _: cast("Connection", seen), seen


def behind_on(line: Line, run: str) -> list[Behind]:
    with watched(line.dsn) as (at, _):
        return progress.behind_on(at, run)


def lay_out(
    on: psycopg.Connection[Any], dice: random.Random
) -> tuple[dict[int, list[str]], dict[tuple[str, int], int]]:
    """Records of three runs in any order on the partitions of one topic, readers anywhere, and the archive's ledger as far
    as the archive is: the run of each record by partition, and who stands where."""
    on.execute("truncate bus.log, checkpoints.positions, archive.segments")
    laid, stands = {}, {}
    for partition in range(3):
        runs = [dice.choice(RUNS) for _ in range(dice.randrange(RECORDS))]
        laid[partition] = sorted(runs) if dice.random() < 0.5 else runs
        append(on, partition, laid[partition])
        for worker in READERS:
            if dice.random() < 0.9:
                stands[worker, partition] = dice.choice((dice.randint(0, len(runs)), len(runs)))
                stand(on, worker, partition, stands[worker, partition])
        archive(on, partition, laid[partition][: stands.get((READERS[-1], partition), 0)], dice)
    return laid, stands


def append(on: psycopg.Connection[Any], partition: int, runs: list[str]) -> None:
    on.execute(
        'insert into bus.log (topic, "partition", "position", event_id, record_key, platform_run_id, body)'
        " select 'decisions', %s, n - 1, n::text, '', run, '{}' from unnest(%s::text[]) with ordinality r(run, n)",
        (partition, runs),
    )
    on.execute(
        "update bus.heads set next_position = %s where topic = 'decisions' and \"partition\" = %s",
        (len(runs), partition),
    )


def stand(on: psycopg.Connection[Any], worker: str, partition: int, position: int) -> None:
    on.execute(
        "insert into checkpoints.positions values (%(worker)s, 'decisions', %(partition)s, %(position)s) on conflict"
        ' (worker, topic, "partition") do update set "position" = excluded."position"',
        {"worker": worker, "partition": partition, "position": position},
    )


def archive(on: psycopg.Connection[Any], partition: int, runs: list[str], dice: random.Random) -> None:
    """The ledger of these records: a stretch of positions at a time, one segment per run in it."""
    segments, first = [], 0
    while first < len(runs):
        end = min(len(runs), first + dice.randint(1, 9))
        for run in set(runs[first:end]):
            mine = [position for position in range(first, end) if runs[position] == run]
            segments.append((run, partition, mine[0], mine[-1], len(mine)))
        first = end
    with on.cursor() as cursor:
        cursor.executemany(
            "insert into archive.segments values (%s, 'archive', 'decisions', %s, %s, %s, %s, '', '', '', 'COMPLETE')",
            segments,
        )


def test_it_is_what_counting_every_record_says(line: Line) -> None:
    """For every run, every reader and every order of records on the bus; who has no checkpoint yet has everything before him."""
    with line.database.scope() as connection:
        trimming.subscribe(connection, [("decisions", worker.partition(".")[0]) for worker in READERS])
    with watched(line.dsn) as (at, _), psycopg.connect(line.dsn, autocommit=True) as on:
        for seed in range(20):
            laid, stands = lay_out(on, random.Random(seed))
            for run in RUNS:
                expected = Counter[str]()
                for partition, runs in laid.items():
                    for worker in READERS:
                        name = worker if (worker, partition) in stands else worker.partition(".")[0]
                        expected[name] += runs[stands.get((worker, partition), 0) :].count(run)
                found = {stage.stage: stage.records for stage in progress.behind_on(at, run)}
                assert found == {worker: count for worker, count in expected.items() if count}, f"seed {seed}, {run}"


def test_a_reader_that_is_held_far_back_costs_a_run_that_ended_before_nothing(line: Line) -> None:
    """What is read of the log is the tail behind the archive, not all that the slowest reader has before him; and of a run
    in which somebody stands, as far as the run goes."""
    runs = [OLD] * 20 + [NEW] * 4000
    with watched(line.dsn) as (at, seen), psycopg.connect(line.dsn, autocommit=True) as on:
        append(on, 0, runs)
        archive(on, 0, runs[:3990], random.Random(1))
        stand(on, "archive_writer.archive", 0, 3990)
        stand(on, "label_store", 0, 20)
        assert progress.behind_on(at, OLD) == []
        assert seen.ranges == [(3990, 4020)]
        assert {stage.records for stage in progress.behind_on(at, NEW)} == {4000, 30}
        stand(on, "label_store", 0, 15)
        seen.ranges.clear()
        assert progress.behind_on(at, OLD) == [Behind("label_store", "decisions", 5)]
        assert seen.ranges == [(15, 20), (3990, 4020)]


def test_what_was_trimmed_was_passed_or_is_named(line: Line) -> None:
    """Nobody is behind on records that went when everybody was past them; who stands before them still is, whatever goes
    between two statements."""
    with watched(line.dsn) as (at, _), psycopg.connect(line.dsn, autocommit=True) as on:
        append(on, 0, [OLD] * 10 + [NEW] * 5)
        archive(on, 0, [OLD] * 10 + [NEW] * 5, random.Random(1))
        trimming.trim(cast("Connection", on), ("decisions", 0), first=0, end=12)
        stand(on, "archive_writer.archive", 0, 15)
        stand(on, "case_trigger", 0, 12)
        assert progress.behind_on(at, OLD) == []
        assert progress.behind_on(at, NEW) == [Behind("case_trigger", "decisions", 3)]
        stand(on, "case_trigger", 0, 9)
        assert [stage.stage for stage in progress.behind_on(at, OLD)] == ["case_trigger"]


def test_a_record_that_moves_while_it_is_looked_for_is_found(line: Line) -> None:
    """Two stages take it on, each before any statement of the look: it never shows as through, for the last reader has not
    read what came of it."""
    last = [line.context_for(LABEL_STORE).consumer(AdvanceOnly(), topics=("case_events",))]
    stages = [line.activities(CASE_TRIGGER), line.activities(CASE_MANAGEMENT)]
    for activities in (*stages, last):
        line.drain(activities)
    line.append("decisions", [decision(0, outcome="BLOCK", run=line.run)], event_id=lambda body: body["decision_id"])
    with watched(line.dsn) as (at, seen):
        assert [str(stage) for stage in progress.behind_on(at, line.run)] == ["case_trigger is 1 behind on decisions"]
        statements = seen.statements + 4  # more partitions to look at once it moves
    for activities in (*stages, last):
        line.drain(activities)
    assert behind_on(line, line.run) == []
    number = 0
    for first in range(statements):
        for second in range(first, statements, 3):
            number += 1
            body = decision(number, outcome="BLOCK", run=line.run)
            line.append("decisions", [body], event_id=lambda body: body["decision_id"])
            due = [(first, stages[0]), (second, stages[1])]

            def move(statement: int, due: list[Any] = due) -> None:
                while due and due[0][0] == statement:
                    line.drain(due.pop(0)[1])

            with watched(line.dsn, move) as (at, _):
                assert progress.behind_on(at, line.run), f"missed, moved before statements {first} and {second}"
            for activities in (*stages, last):
                line.drain(activities)
            assert behind_on(line, line.run) == []


def test_the_report_of_an_old_run_does_not_wait_for_another(line: Line) -> None:
    """While somebody is always behind on the other run, the report of the old one says that it is through, and the report of
    the other says who is not with that one."""
    line.run = NEW
    line.begin_run()
    line.run = OLD
    line.begin_run()
    trigger = line.activities(CASE_TRIGGER)
    line.drain(trigger)
    for number, run in enumerate((OLD, NEW)):
        body = decision(number, outcome="ALLOW", run=run)
        line.append("decisions", [body], event_id=lambda body: body["decision_id"])
        if run == OLD:
            line.drain(trigger)
    old = ask_for_report(line, reporter(line))
    assert old is not None
    assert (old["caught_up"], old["behind"]) == (True, [])
    assert "still flowing" not in render_report(old)
    line.run = NEW
    new = ask_for_report(line, reporter(line))
    assert new is not None
    assert new["behind"] == [{"stage": "case_trigger", "what": "decisions", "records": 1}]
