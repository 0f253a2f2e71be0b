"""Dead letters outlive their run's state: none is handled again without it, whoever comes first of an order and a retirement."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from fraud_daemons.clock import SystemClock
from fraud_daemons.postgres_runtime.connector import close_thread_connections
from fraud_daemons.state import letter_orders, retiring
from fraud_daemons.state.letters import LetterAddress
from tests.integration import test_case_changes, test_retiring
from tests.integration.test_case_changes import Platform
from tests.integration.test_retiring import BESIDE, decide, retired
from tests.line import Line
from tests.system.platform_under_test import wait_until

platform = test_case_changes.platform
whole = test_retiring.whole

LETTER = """
    insert into dead_letters.letters (worker, topic, "partition", "position", platform_run_id, event_id, record_key, reason, detail,
      body, dead_at) values ('case_trigger', 'decisions', 0, %s, %s, 'e', 'k', 'r', '', '', now())
"""


def letter(line: Line, position: int, run: str) -> str:
    """A dead letter of a run."""
    line.sql(LETTER, (position, run))
    return f"case_trigger:decisions:0:{position}"


def waits_for(line: Line, future: Future[Any]) -> bool:
    """Somebody waits for the lock of a run; who did not wait for it has ended instead."""
    assert not future.done()
    return line.sql("select count(*) from pg_locks where locktype = 'advisory' and not granted") == [(1,)]


def test_a_letter_of_a_retired_run_is_not_redriven(line: Line, platform: Platform) -> None:
    """Refused in a line that says when and with which report the run went; nothing is ordered or written down. Among others it
    ends the command as every refusal does, and is named; it can still be left for good."""
    line.begin_run()
    line.sql("insert into control.runs (platform_run_id, started_at) values (%s, '2025-12-01')", (BESIDE,))
    gone, first, last = letter(line, 0, BESIDE), letter(line, 1, line.run), letter(line, 2, line.run)
    with line.database.scope() as connection:
        retiring.retire(connection, BESIDE, report_key="the/last/report.json", at=line.clock.now())
    code, _, err = platform("deadletters", "redrive", gone, "--reason", "mended")
    assert (code, err.count("\n")) == (1, 1)
    for said in (
        gone,
        f"its run {BESIDE} was retired at 2026-",
        "the/last/report.json",
        "deadletters skip",
        "nothing was ordered",
    ):
        assert said in err
    assert line.sql("select count(*) from dead_letters.orders") == [(0,)]
    assert line.sql("select count(*) from control.governance where kind = 'LETTER_ORDERED'") == [(0,)]
    code, _, err = platform("deadletters", "redrive", first, gone, last, "--reason", "mended")
    assert code == 1
    assert f"letter {gone} cannot be redriven" in err
    assert "1 before it were ordered" in err
    assert line.sql('select "position", state from dead_letters.orders') == [(1, "OPEN")]
    assert platform("deadletters", "skip", gone, "--reason", "its run is gone")[0] == 0


def test_a_redrive_that_is_being_ordered_keeps_the_run(whole: Line) -> None:
    """All was looked at and the run may go, but for an order that is not committed yet: it is waited for, and the run stays
    until its worker has carried the order out, and then until another report knows of it."""
    address = LetterAddress.parse(letter(whole, 0, whole.run))
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(whole.dsn) as connection:
            assert retiring.keep_unretired(connection, whole.run) is None
            letter_orders.order(connection, address, "REDRIVE", by="ada", reason="mended", at=SystemClock().now())
            told = pool.submit(decide, whole)
            wait_until(lambda: waits_for(whole, told), seconds=10, what="the reporter waits")
        kept = told.result(timeout=20)
        pool.submit(close_thread_connections).result(timeout=20)
    assert kept == {"runs_not_retired": {whole.run: "case_trigger is 1 behind on letters ordered again"}}
    assert retired(whole) == []
    whole.sql("update dead_letters.orders set state = 'DONE', ended_at = '2100-01-01'")
    assert "a letter was redriven after its newest report" in decide(whole)["runs_not_retired"][whole.run]


def test_a_redrive_that_comes_while_the_run_is_retired_is_refused(line: Line, platform: Platform) -> None:
    """The run is being retired and that is not committed yet: the command waits for it, and then refuses."""
    line.begin_run()
    late = letter(line, 0, line.run)
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(line.dsn) as connection:
            retiring.decide_alone(connection, line.run)
            retiring.retire(connection, line.run, report_key="k", at=line.clock.now())
            answer = pool.submit(platform, "deadletters", "redrive", late, "--reason", "mended")
            wait_until(lambda: waits_for(line, answer), seconds=10, what="the command waits")
        code, _, err = answer.result(timeout=20)
        pool.submit(close_thread_connections).result(timeout=20)
    assert code == 1
    assert "was retired at" in err
    assert line.sql("select count(*) from dead_letters.orders") == [(0,)]
