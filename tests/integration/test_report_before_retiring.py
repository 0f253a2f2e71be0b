"""A run that nobody asked a report for does not keep its state for ever: when it is old enough the reporter makes one by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud_daemons.workers.obs_gov.run_reporter import WORKER as REPORTER
from tests.integration.test_retiring import BESIDE, LAST_DECISION, another_run_begins, decide, execute, retired
from tests.integration.whole_line import reporter, whole_run
from tests.line import Line

BEING_MADE = "a report about it is being made"
RUN_ROWS = "insert into control.runs (platform_run_id, started_at) values (%s, %s)"


def requests(line: Line) -> list[str]:
    """The runs for which reports were asked, one for each."""
    return [run for (run,) in line.sql("select platform_run_id from reporter.requests order by 1")]


def reports(line: Line) -> list[dict[str, Any]]:
    """Every report whose evidence is there."""
    return [
        {**orjson.loads(body), "key": key}
        for body, key in line.sql("select body, object_key from reporter.reports where state = 'COMPLETE'")
    ]


@pytest.fixture
def unreported(line: Line, short_dir: Path) -> Line:
    """A run that went the whole way and that nobody asked about; then another run began."""
    whole_run(line, short_dir)
    line.drain(reporter(line))  # it reads requests, among them what was asked of others
    another_run_begins(line)
    return line


def test_an_old_run_without_a_report_gets_one_and_goes(unreported: Line) -> None:
    """Asked for once, whoever looks again and however often; made like one that a person asked for; it passes and the run is retired
    with its key. None is made for a run that is young, or with the policy off."""
    line = unreported
    for age in (0.0, 365.0):
        assert decide(line, **{"trim.run_age_days": age}) == {}
    assert requests(line) == []
    for _ in range(3):
        assert decide(line) == {"runs_not_retired": {line.run: BEING_MADE}}
    assert requests(line) == [line.run]
    line.drain(line.activities(REPORTER, settings={"trim.run_age_days": 0.0}))
    [report] = reports(line)
    assert (report["platform_run_id"], report["verdict"], report["caught_up"]) == (line.run, "PASS", True)
    assert line.make_store().get(report["key"])
    assert decide(line) == {}
    assert line.sql("select platform_run_id, report_key from control.retired_runs") == [(line.run, report["key"])]
    assert requests(line) == [line.run]


def test_a_run_that_has_a_report_gets_no_other(unreported: Line) -> None:
    """One that says FAIL is a person's to look at: nothing is asked for, and the run is named with it."""
    line = unreported
    decide(line)
    line.drain(line.activities(REPORTER, settings={"trim.run_age_days": 0.0}))
    line.sql("update reporter.reports set verdict = 'FAIL'")
    for _ in range(2):
        assert decide(line) == {"runs_not_retired": {line.run: "its newest report says FAIL"}}
    assert requests(line) == [line.run]


def test_no_report_is_made_while_something_of_the_run_is_under_way(unreported: Line) -> None:
    """One record that one stage has not read: the stage is named and nothing is asked for. When it has, the report is."""
    line = unreported
    execute(line, LAST_DECISION.format(by=-1), line.run)
    assert decide(line) == {"runs_not_retired": {line.run: "case_trigger is 1 behind on decisions"}}
    assert requests(line) == []
    execute(line, LAST_DECISION.format(by=1), line.run)
    assert decide(line) == {"runs_not_retired": {line.run: BEING_MADE}}


def test_one_run_at_a_time_and_a_person_first(unreported: Line) -> None:
    """While any report is waited for no other is asked for; the run is named meanwhile, and has its turn."""
    line = unreported
    line.sql("insert into reporter.requests values (%s, 'by hand', now())", (BESIDE,))
    in_turn = {"runs_not_retired": {line.run: "no report says that it is whole; one is made in its turn"}}
    assert decide(line) == in_turn
    assert requests(line) == [BESIDE]
    line.sql("delete from reporter.requests")
    assert decide(line) == {"runs_not_retired": {line.run: BEING_MADE}}


def test_nothing_was_admitted_and_nothing_is_reported(line: Line) -> None:
    """A report about nothing says FAIL, and would alarm for a run that was begun and never used."""
    line.begin_run()
    line.sql("delete from control.runs")
    for run, month in (("platform_20250101T000000Z", 1), (BESIDE, 2)):
        line.sql(RUN_ROWS, (run, datetime(2025, month, 1, tzinfo=UTC)))
    assert decide(line) == {"runs_not_retired": {"platform_20250101T000000Z": "nothing was admitted for it"}}
    assert requests(line) == []


def test_evidence_that_somebody_wrote_first_is_not_asked_for_again(unreported: Line) -> None:
    """Other bytes stand at the key of the reporter's own report: it says what a person can do, and asks for nothing."""
    line = unreported
    decide(line)
    line.drain(line.activities(REPORTER, settings={"trim.run_age_days": 0.0}))
    line.sql("update reporter.reports set state = 'CONFLICT'")
    asked = f"no report says that it is whole; platform report --run {line.run}"
    assert decide(line) == {"runs_not_retired": {line.run: asked}}
    assert (requests(line), retired(line)) == ([line.run], [])
