"""Retired runs: state is given up only of runs that ended long ago and were proved whole, and repeats do not become new."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.runtime.retiring import ROWS_AT_ONCE_MAX, StateRetirer
from fraud_daemons.state import retiring
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER as GATE
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER as PRODUCER
from fraud_daemons.workers.obs_gov._retiring import Retiring
from fraud_daemons.workers.obs_gov.run_reporter import WORKER as REPORTER
from tests.gate import open_gate
from tests.integration.test_trimming import Cut, cut_at
from tests.integration.whole_line import BEHIND_THE_GATE, ask_for_report, reporter, whole_run
from tests.line import Line

A_DAY = {"trim.run_age_days": 1.0}
OWNERS = [worker for worker in (GATE, PRODUCER, *BEHIND_THE_GATE) if worker.schema in retiring.TABLES]
KEPT = ("case_mgmt.cases", "case_mgmt.timeline", "label_store.assertions", "case_trigger.triggers", "reporter.reports",
        "ig.segments", "dla.segments", "archive.segments", "wsp.streams", "control.runs")  # fmt: skip
BESIDE = "platform_20251231T000000Z"
"""Another run whose rows stand between those of the retired one."""


def decide(line: Line, **settings: Any) -> dict[str, Any]:
    """The decider looks until it has nothing to do; what it tells."""
    retirement = Retiring(line.context_for(REPORTER, settings={**A_DAY, **settings}))
    while retirement.step().records:
        pass
    return retirement.detail()


def retired(line: Line) -> list[str]:
    return [run for (run,) in line.sql("select platform_run_id from control.retired_runs")]


def another_run_begins(line: Line) -> None:
    line.sql(
        "update control.runs set started_at = %s where platform_run_id = %s",
        (datetime(2025, 6, 1, tzinfo=UTC), line.run),
    )
    line.sql("delete from control.runs where platform_run_id <> %s", (line.run,))
    line.sql(
        "insert into control.runs (platform_run_id, started_at) values (%s, %s)",
        (BESIDE, datetime(2025, 12, 1, tzinfo=UTC)),
    )


def owners(line: Line) -> list[StateRetirer]:
    """Each owner's activity, as a new process has it."""
    return [StateRetirer(line.context_for(worker)) for worker in OWNERS]


def rows(line: Line, tables: Iterable[str], run: str) -> dict[str, int]:
    return {t: line.sql(f"select count(*) from {t} where platform_run_id = %s", (run,))[0][0] for t in tables}


ALL = [f"{schema}.{table}" for schema, tables in retiring.TABLES.items() for table in tables]


@pytest.fixture
def whole(line: Line, short_dir: Path) -> Line:
    """A run that went the whole way, its report PASS; then another run began."""
    whole_run(line, short_dir)
    report = ask_for_report(line, reporter(line), 1)
    assert report is not None
    assert report["verdict"] == "PASS"
    assert report["caught_up"]
    another_run_begins(line)
    return line


def test_the_tables_are_all_that_belong_to_a_run(line: Line) -> None:
    """Every table of those schemas with a run in its key is given up, or is a ledger of objects or of what people asked for, and stays."""
    found = {f"{s}.{t}" for s, t in line.sql(
        "select distinct table_schema, table_name from information_schema.columns where column_name = 'platform_run_id'"
        " and table_schema = any(%s)", (list(retiring.TABLES),)
    )}  # fmt: skip
    assert found - set(ALL) == {"ig.segments", "ig.redrives", "dla.segments", "wsp.streams"}
    assert set(ALL) <= found


def test_a_run_that_ended_and_was_proved_whole_gives_its_state_up(whole: Line) -> None:
    """Its rows go, batch by batch, and only its own; cases, labels, ledgers and reports stay; the deed is written down. Before
    the rows go that a repeat is known by, nothing is admitted for the run any more, by a gate that knew it neither."""
    line = whole
    line.sql("insert into ieg.entities select %s, 'card:x', now(), now(), 1", (BESIDE,))
    before = rows(line, KEPT, line.run)
    assert sum(rows(line, ALL, line.run).values()) > 1000
    event = next(body for body in line.bodies("traffic") if body["event_type"] == "traffic")
    with open_gate(line) as gate:
        assert gate.post([event]).statuses == ["DUPLICATE"]
        assert decide(line) == {}
        assert retired(line) == [line.run]
        assert line.sql("select platform_run_id from control.governance where kind = 'RUN_RETIRED'") == [(line.run,)]
        line.drain(owners(line))
        assert sum(rows(line, ALL, line.run).values()) > 1000, "not within a minute of the decision"
        for seconds in (11, 61):
            line.clock.advance(seconds)
            line.drain(owners(line))
            [refused] = gate.post([event]).results
            assert (refused["status"], refused["reason"]) == ("QUARANTINED", "RUN_UNKNOWN")
    assert set(rows(line, ALL, line.run).values()) == {0}
    assert rows(line, ["ieg.entities"], BESIDE) == {"ieg.entities": 1}
    assert rows(line, KEPT, line.run) == before


def test_who_asks_for_all_retired_runs_gets_them(line: Line) -> None:
    """With a moment and without one, as the report's command asks."""
    line.begin_run()
    with line.database.scope() as connection:
        retiring.retire(connection, line.run, report_key="k", at=line.clock.now())
        assert retiring.retired(connection) == {line.run: (line.clock.now(), "k")}
        assert retiring.retired(connection, before=datetime(2000, 1, 1, tzinfo=UTC)) == {}


def test_what_is_not_old_or_not_proved_whole_is_kept_and_named(whole: Line) -> None:
    """Never the current run, none that is young, none with the policy off. No report, one that failed, one from before the
    last event, a stage that is behind: the state stays, and the run is named."""
    decide(whole, **{"trim.run_age_days": 0.0})
    whole.sql("update control.runs set started_at = %s where platform_run_id = %s", (whole.clock.now(), BESIDE))
    decide(whole)
    whole.sql("delete from control.runs where platform_run_id = %s", (BESIDE,))
    decide(whole)
    assert retired(whole) == []
    another_run_begins(whole)
    for spoil, mend, said in (
        ("reporter.reports set verdict = 'FAIL'", "reporter.reports set verdict = 'PASS'", "its newest report says FAIL"),
        ("reporter.reports set reported_at = '2000-01-01'", "reporter.reports set reported_at = '2026-02-01'",
         "events came after its newest report"),
        ("checkpoints.positions set \"position\" = \"position\" - 1000000 where worker = 'case_trigger'",
         "checkpoints.positions set \"position\" = \"position\" + 1000000 where worker = 'case_trigger'",
         "records still flow"),
        ("reporter.reports set state = 'INTENT'", "reporter.reports set state = 'COMPLETE'",
         "no report says that it is whole"),
    ):  # fmt: skip
        whole.sql(f"update {spoil}")
        assert said in decide(whole)["runs_not_retired"][whole.run]
        assert retired(whole) == []
        whole.sql(f"update {mend}")
    assert decide(whole) == {}
    assert retired(whole) == [whole.run], "mended it goes"


def test_killed_before_every_statement_the_rest_goes_later(whole: Line) -> None:
    """Whatever statement is the last of an owner's process, the next process deletes what is left, and nothing else."""
    line = whole
    decide(line)
    line.clock.advance(61)
    before, statement = rows(line, KEPT, line.run), 0
    for _ in range(200):
        statement += 1
        finished = False
        with cut_at(statement), suppress(Cut):
            line.drain(owners(line)[:2])
            finished = True
        if finished:
            break
    assert finished
    assert statement > 3
    gone = [f"{w.schema}.{table}" for w in OWNERS[:2] for table in retiring.TABLES[w.schema]]
    assert set(rows(line, gone, line.run).values()) == {0}
    assert rows(line, KEPT, line.run) == before
    assert ROWS_AT_ONCE_MAX >= 1000
