"""Retired runs: state is given up only of runs that ended long ago and were proved whole, and repeats do not become new."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.runtime.retiring import REST_PER_STEP, ROWS_AT_ONCE_MAX, StateRetirer
from fraud_daemons.state import progress, retiring
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER as GATE
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER as PRODUCER
from fraud_daemons.workers.obs_gov._retiring import TOLD_MAX, Retiring
from fraud_daemons.workers.obs_gov.run_reporter import WORKER as REPORTER
from tests.gate import open_gate
from tests.integration.test_trimming import Cut, cut_at
from tests.integration.whole_line import BEHIND_THE_GATE, TRANSACTIONS, ask_for_report, reporter, settle, whole_run
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
    while not retirement.step().rest_seconds:
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
    """Never the current run, none that is young, none with the policy off. No report, one that failed, one made while its
    records flowed, one that is being made: the state stays, and the run is named."""
    decide(whole, **{"trim.run_age_days": 0.0})
    whole.sql("update control.runs set started_at = %s where platform_run_id = %s", (whole.clock.now(), BESIDE))
    decide(whole)
    whole.sql("delete from control.runs where platform_run_id = %s", (BESIDE,))
    decide(whole)
    assert retired(whole) == []
    another_run_begins(whole)
    for spoil, mend, said in (
        ("update reporter.reports set verdict = 'FAIL'", "update reporter.reports set verdict = 'PASS'", "its newest report says FAIL"),
        ("update reporter.reports set body = convert_to(replace(convert_from(body, 'UTF8'), '\"caught_up\":true', '\"caught_up\":false'), 'UTF8')",
         "update reporter.reports set body = convert_to(replace(convert_from(body, 'UTF8'), '\"caught_up\":false', '\"caught_up\":true'), 'UTF8')",
         "its newest report says PASS, while its records flowed"),
        ("update reporter.reports set state = 'INTENT'", "update reporter.reports set state = 'COMPLETE'",
         "a report about it is being made"),
        ("insert into reporter.requests select platform_run_id, 'another', requested_at from reporter.requests",
         "delete from reporter.requests where request_id = 'another'",
         "a report about it is being made"),
    ):  # fmt: skip
        whole.sql(spoil)
        assert said in decide(whole)["runs_not_retired"][whole.run]
        assert retired(whole) == []
        whole.sql(mend)
    assert decide(whole) == {}
    assert retired(whole) == [whole.run], "mended it goes"


def test_an_event_after_the_report_keeps_the_state_until_another_report_knows_of_it(whole: Line) -> None:
    """The event went all its way since, and nothing of the run is under way: still the report that passed does not speak of it."""
    event = next(body for body in whole.bodies("traffic") if body["event_type"] == "traffic")
    with open_gate(whole) as gate:
        assert gate.post([{**event, "event_id": "f" * 32}]).statuses == ["ADMITTED"]
        for _ in range(2):
            whole.drain(gate.activities[1:], advance_seconds=2.0)
    for worker in BEHIND_THE_GATE:
        settle(whole, worker)
    asked = f"events came after its newest report; platform report --run {whole.run}"
    assert decide(whole) == {"runs_not_retired": {whole.run: asked}}
    ask_for_report(whole, reporter(whole), 2)
    assert asked not in decide(whole).get("runs_not_retired", {}).values()


def test_the_end_of_the_archive_is_found_without_reading_the_run(line: Line) -> None:
    """However long the run and however many others there are: the index by run, its last row of a partition."""
    line.sql(
        "insert into archive.segments select 'platform_' || n %% 50, 'archive', topic, 0, n, n, 1, '', md5(n::text), '', 'COMPLETE'"
        " from generate_series(1, 50000) n, unnest(array['traffic', 'truth']) topic where %s", (True,)
    )  # fmt: skip
    line.sql("analyze archive.segments")
    of = {"run": "platform_7", "topics": ["traffic", "truth"], "partitions": [0, 0]}
    statement = load("fraud_daemons.state.sql", "archive_ends.sql")
    plan = "\n".join(text for (text,) in line.sql(f"explain (analyze, timing off, costs off) {statement}", of))
    assert "Index Scan Backward using segments_of_run" in plan
    assert "Seq Scan" not in plan
    assert "rows=1.00 loops=2" in plan or "rows=1 loops=2" in plan, plan


FLOWS = ("traffic", "flows.bound", "flows.featured", "decisions", "action_outcomes", "case_triggers", "labels")
SEGMENTS = """
    insert into {schema}.segments (platform_run_id, family, topic, "partition", first_position, last_position, records, previous_sha256,
      sha256, object_key, state) values (%(run)s, 'planted', 'x', 0, 0, 0, 1, '', '', '', 'INTENT')
"""
LETTER = """
    insert into dead_letters.letters (worker, topic, "partition", "position", platform_run_id, event_id, record_key, reason, detail,
      body, dead_at) values ('case_trigger', 'decisions', 0, 0, %(run)s, 'e', 'k', 'r', '', '', now());
    insert into dead_letters.orders (worker, topic, "partition", "position", ordinal, kind, ordered_by, reason, ordered_at, state)
      values ('case_trigger', 'decisions', 0, 0, 1, 'REDRIVE', 'ada', 'mended', now(), 'OPEN')
"""
LAST_DECISION = """
    update checkpoints.positions c set "position" = c."position" + {by} where worker = 'case_trigger' and topic = 'decisions'
      and "partition" = (select "partition" from bus.log where topic = 'decisions' and platform_run_id = %(run)s order by 1 limit 1)
"""
PLANTED = (
    (LAST_DECISION.format(by=-1), LAST_DECISION.format(by=1), "case_trigger is 1 behind on decisions"),
    (
        "insert into outbox.pending values ('decision_fabric', 1, 'decisions', 'e', 'k', %(run)s, '')",
        "delete from outbox.pending where platform_run_id = %(run)s",
        "decision_fabric is 1 behind on outbox",
    ),
    *(
        (
            SEGMENTS.format(schema=schema),
            f"delete from {schema}.segments where family = 'planted' and platform_run_id = %(run)s",
            f"{worker} is 1 behind on planted objects",
        )
        for schema, worker in (("ig", "ingestion_gate"), ("dla", "decision_log_audit"), ("archive", "archive_writer"))
    ),
    (
        "update wsp.streams set state = 'RUNNING' where platform_run_id = %(run)s",
        "update wsp.streams set state = 'DONE' where platform_run_id = %(run)s",
        "world_stream_producer is 1 behind on streams not ended",
    ),
    (LETTER, "delete from dead_letters.orders", "case_trigger is 1 behind on letters ordered again"),
    (
        "insert into bus.subscribers values ('audit_chains', 'newcomer')",
        "delete from bus.subscribers",
        f"newcomer is {TRANSACTIONS} behind on audit_chains",
    ),
)
"""How something of a run is under way, how it ends, and what is said meanwhile."""


def flow(line: Line, run: str) -> None:
    """A record of the run on every topic, that nobody reads."""
    for topic in FLOWS:
        line.append(topic, [{"platform_run_id": run, "flow_id": "f", "card_token": "c"}], event_id=lambda _: "e")


def execute(line: Line, statements: str, run: str) -> None:
    for statement in statements.split(";"):
        line.sql(statement, {"run": run} if "%(run)s" in statement else None)


def test_what_flows_for_another_run_holds_nothing_up(whole: Line) -> None:
    """The platform is never through - records, outbox, objects, streams and orders of the other run wait - and the run goes."""
    flow(whole, BESIDE)
    whole.sql("insert into wsp.streams (platform_run_id, stream_id, ordinal, world, request, accepted_at) values (%s, 's', 1, 'w', '{}', now())", (BESIDE,))  # fmt: skip
    for plant, _, _ in PLANTED[1:7]:
        execute(whole, plant, BESIDE)
    with whole.database.scope() as connection:
        flowing = {stage.what for stage in progress.behind(lambda _: connection)}
    assert {*FLOWS, "outbox", "planted objects", "streams not ended"} <= flowing
    assert decide(whole) == {}
    assert retired(whole) == [whole.run]


def test_what_is_under_way_of_the_run_keeps_its_state_and_is_named(whole: Line) -> None:
    """One record that one stage has not read, one outbox row, one object that is not sealed, one stream, one order, one
    reader that has not begun: each alone, while another run flows."""
    flow(whole, BESIDE)
    for plant, mend, said in PLANTED:
        execute(whole, plant, whole.run)
        assert decide(whole) == {"runs_not_retired": {whole.run: said}}
        assert retired(whole) == []
        execute(whole, mend, whole.run)
    whole.sql(
        "insert into dead_letters.orders values ('case_trigger', 'decisions', 0, 0, 1, 'REDRIVE', 'ada', 'mended', now(), 'DONE', '',"
        " '2100-01-01')"
    )
    assert "a letter was redriven after its newest report" in decide(whole)["runs_not_retired"][whole.run]
    whole.sql("delete from dead_letters.orders")
    assert decide(whole) == {}
    assert retired(whole) == [whole.run], "mended it goes"


def test_runs_that_keep_their_state_hide_nobody(line: Line) -> None:
    """However many older ones wait for their report, one that was proved whole goes; the oldest are named, the rest counted."""
    line.begin_run()
    another_run_begins(line)
    line.sql(
        "insert into control.runs (platform_run_id, started_at)"
        " select 'platform_2024' || lpad(n::text, 4, '0'), '2024-01-01'::timestamptz + make_interval(days => n) from generate_series(1, 65) n"
    )
    line.sql("insert into reporter.requests values (%s, 'r', now())", (line.run,))
    line.sql(
        "insert into reporter.reports (platform_run_id, request_id, verdict, body, sha256, object_key, state, reported_at)"
        " values (%s, 'r', 'PASS', '{\"caught_up\": true}', '', 'k', 'COMPLETE', now())", (line.run,)
    )  # fmt: skip
    told = decide(line)
    assert retired(line) == [line.run]
    assert list(told["runs_not_retired"]) == [f"platform_2024{n:04}" for n in range(1, TOLD_MAX + 1)]
    assert told["runs_not_retired_more"] == 65 - TOLD_MAX


def test_deletion_leaves_the_worker_and_the_table_to_the_run_that_flows(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch locks its rows and no table, finds them by their key however few they are, and is followed by a rest many
    times as long as it took."""
    line.begin_run()
    with line.database.scope() as connection:
        retiring.retire(connection, line.run, report_key="k", at=line.clock.now())
    line.clock.advance(61)
    line.sql(
        "insert into ig.admissions select case when n <= %s then %s else %s end, 'traffic', md5(n::text), '', '', 'traffic', 0, n, 'PUBLISHED',"
        " now() from generate_series(1, 4 * %s) n", (ROWS_AT_ONCE_MAX + 1, line.run, BESIDE, ROWS_AT_ONCE_MAX)
    )  # fmt: skip
    line.sql("analyze ig.admissions")
    locks, plans = set(), list[str]()
    delete_some = retiring.delete_some

    def watched(connection: Any, schema: str, table: str, run: str, *, limit: int) -> int:
        gone = delete_some(connection, schema, table, run, limit=limit)
        locks.update(
            connection.execute("select mode from pg_locks where pid = pg_backend_pid() and locktype = 'relation'")
        )
        explain = sql.SQL("explain {some}").format(some=retiring.some_of(schema, table))
        plan = connection.execute(explain, {"run": run, "limit": 2000})
        plans.append("\n".join(text for (text,) in plan))
        line.clock.advance(0.01)
        return gone

    monkeypatch.setattr(retiring, "delete_some", watched)
    retirer, batches = owners(line)[0], 1 + len(retiring.TABLES["ig"])
    done = [retirer.step() for _ in range(1 + batches)]
    assert [step.records for step in done] == [0, ROWS_AT_ONCE_MAX, 1, *[0] * (batches - 2)]
    assert [step.rest_seconds for step in done] == [0.0, *[pytest.approx(0.01 * REST_PER_STEP)] * batches]
    assert locks == {("AccessShareLock",), ("RowExclusiveLock",)}
    assert [plan for plan in plans if "->  Index Scan" not in plan and "Index Only Scan" not in plan] == []


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
