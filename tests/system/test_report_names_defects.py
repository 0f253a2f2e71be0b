"""The run report finds one lost and one doubled record in every stage, and names both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.system.platform_under_test import PlatformUnderTest
from tests.system.test_the_line import assert_every_equation_holds

# worker -> (table, column with the id the report compares)
STAGES = {
    "ingestion_gate": ("ig.admissions", "event_id"),
    "context_store_flow_binding": ("csfb.bindings", "flow_id"),
    "online_feature_plane": ("ofp.snapshots", "flow_id"),
    "decision_fabric": ("df.decisions", "decision_id"),
    "action_layer": ("al.outcomes", "intent_id"),
    "decision_log_audit": ("dla.chains", "chain_id"),
    "case_trigger": ("case_trigger.triggers", "trigger_id"),
    "label_store": ("label_store.assertions", "label_id"),
    "run_reporter": ("reporter.reports", "request_id"),
}


@pytest.fixture(scope="module")
def finished_run(platform: PlatformUnderTest) -> str:
    """A good run whose stores the tests then spoil one at a time."""
    platform.make_world("demo", 5000)
    run = platform.new_run()
    platform.stream("demo")  # to its end: only then is every label of the truth feed there
    assert_every_equation_holds(platform.report())
    return run


@contextmanager
def planted(platform: PlatformUnderTest, table: str, column: str, run: str) -> Iterator[tuple[str, str]]:
    """One row of the run taken out and another row put in once more under a foreign id; undone afterwards."""
    name = sql.Identifier(*table.split("."))
    key = sql.Identifier(column)
    with psycopg.connect(platform.dsn(), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # append-only tables have triggers against this
        connection.execute(
            sql.SQL(
                "create temp table taken as select * from {} where platform_run_id = %s order by {} limit 1"
            ).format(name, key),
            (run,),
        )
        connection.execute(
            sql.SQL(
                "create temp table doubled as select * from {} where platform_run_id = %s order by {} desc limit 1"
            ).format(name, key),
            (run,),
        )
        foreign = "reverse({})" if column == "event_id" else "'planted_' || {}"  # an event's id has to be hex digits
        connection.execute(sql.SQL("update doubled set {} = " + foreign).format(key, key))
        for unique in ("decision_id", "flow_id", "event_id"):  # other unique columns of the copied row
            if unique != column:
                _make_unique(connection, unique)
        lost = connection.execute(sql.SQL("select {} from taken").format(key)).fetchone()
        surplus = connection.execute(sql.SQL("select {} from doubled").format(key)).fetchone()
        assert lost
        assert surplus
        connection.execute(
            sql.SQL("delete from {} where platform_run_id = %s and {} = %s").format(name, key), (run, lost[0])
        )
        connection.execute(sql.SQL("insert into {} select * from doubled").format(name))
        if table == "reporter.reports":  # a request without its report would be answered again
            connection.execute("delete from reporter.requests where request_id = %s", (lost[0],))
        try:
            yield lost[0], surplus[0]
        finally:
            connection.execute(
                sql.SQL("delete from {} where platform_run_id = %s and {} = %s").format(name, key), (run, surplus[0])
            )
            connection.execute(sql.SQL("insert into {} select * from taken").format(name))


def _make_unique(connection: psycopg.Connection[Any], column: str) -> None:
    known = connection.execute(
        "select 1 from pg_attribute where attrelid = 'doubled'::regclass and attname = %s", (column,)
    ).fetchone()
    if known:
        connection.execute(
            sql.SQL("update doubled set {} = 'planted_' || {}").format(sql.Identifier(column), sql.Identifier(column))
        )


def examples(report: Any) -> list[str]:
    return [example for equation in report["equations"] for example in equation["examples"]]


@pytest.mark.parametrize("worker", STAGES)
def test_one_lost_and_one_doubled_record_are_both_named(
    platform: PlatformUnderTest, finished_run: str, worker: str
) -> None:
    """They do not cancel: the report fails and names the lost id as missing and the planted id as surplus."""
    table, column = STAGES[worker]
    with planted(platform, table, column, finished_run) as (lost, surplus):
        report = platform.say("report", "--run", finished_run, codes=(1,))
    assert report["verdict"] == "FAIL"
    named = " ".join(examples(report))
    assert lost in named, f"{worker}: the lost record is not named"
    assert surplus in named or "planted_" in named, f"{worker}: the doubled record is not named"
    assert any(e["missing"] for e in report["equations"])
    assert any(e["surplus"] for e in report["equations"])


def test_a_lost_and_a_doubled_record_of_the_producer_are_named(platform: PlatformUnderTest, finished_run: str) -> None:
    """world_stream_producer: an id struck from its journal is missing against the sealed world, a foreign one surplus."""
    with psycopg.connect(platform.dsn(), autocommit=True) as connection:
        row = connection.execute(
            "select ctid, event_ids from wsp.journal where platform_run_id = %s and output = 'traffic' limit 1",
            (finished_run,),
        ).fetchone()
        assert row
        place, ids = row
        connection.execute(
            "update wsp.journal set event_ids = %s where ctid = %s", (["planted_by_test", *ids[1:]], place)
        )
        try:
            report = platform.say("report", "--run", finished_run, codes=(1,))
        finally:
            connection.execute(
                "update wsp.journal set event_ids = %s where platform_run_id = %s and 'planted_by_test' = any(event_ids)",
                (ids, finished_run),
            )
    named = examples(report)
    assert f"missing {ids[0]}" in named
    assert "surplus planted_by_test" in named


def test_a_lost_and_a_doubled_timeline_entry_are_named(platform: PlatformUnderTest, finished_run: str) -> None:
    """case_management: a trigger struck from the case timelines is missing, a foreign one surplus."""
    with psycopg.connect(platform.dsn(), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        rows = connection.execute(
            "select case_id, entry, body ->> 'trigger_id' from case_mgmt.timeline where platform_run_id = %s"
            " and kind in ('OPENED', 'MERGED') order by case_id, entry limit 1",
            (finished_run,),
        ).fetchall()
        case, entry, trigger = rows[0]
        change = "update case_mgmt.timeline set body = jsonb_set(body, '{trigger_id}', to_jsonb(%s::text)) where case_id = %s and entry = %s"
        connection.execute(change, ("planted_by_test", case, entry))
        try:
            report = platform.say("report", "--run", finished_run, codes=(1,))
        finally:
            connection.execute(change, (trigger, case, entry))
    named = examples(report)
    assert f"missing {trigger}" in named
    assert "surplus planted_by_test" in named
