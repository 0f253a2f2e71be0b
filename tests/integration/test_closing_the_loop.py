"""Closing the loop: a case is resolved as fraud by command, and the next transaction at that terminal shows it."""

from __future__ import annotations

from typing import Any

import pytest

from fraud_daemons.state import feature_labels
from fraud_daemons.workers.case_labels import case_management, label_store
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core import online_feature_plane
from tests.console import Console, open_console
from tests.integration import test_case_changes
from tests.integration.lane import bind, flow
from tests.integration.test_case_changes import Platform, one_case, working
from tests.line import Line

platform = test_case_changes.platform

AT_ONCE = {"features.label_delay_days": 0}


def share_of_the_next_flow(line: Line, number: int) -> tuple[float, int]:
    """The next transaction at the terminal goes through label store and feature plane: (fraud share, count) of its week."""
    bind(line, [flow(number, cards=1, platform_run_id=line.run)])
    line.work(label_store.WORKER)
    line.work(online_feature_plane.WORKER, settings=AT_ONCE)
    ((features,),) = [
        (body["features"],) for body in line.bodies("flows.featured") if body["flow_id"] == f"flow{number}" and "f-test" not in body["feature_revision"]
    ]  # fmt: skip
    return features["terminal_fraud_share_7d"], features["terminal_delayed_count_7d"]


def loop(line: Line, platform: Platform) -> list[tuple[float, int]]:
    """Before the command, after fraud was said of two flows, and of the SQL that shows the same."""
    case = one_case(line)
    before = share_of_the_next_flow(line, 7)
    with working(line):
        assert platform("cases", "resolve", case, "--disposition", "fraud", "--actor", "ada")[0] == 0
    line.drain(line.activities(case_management.WORKER))
    return [before, share_of_the_next_flow(line, 8)]


def test_the_next_transaction_of_the_terminal_shows_the_disposition(line: Line, platform: Platform) -> None:
    """Two of four transactions at the terminal are known as fraud now; the ledger says so in SQL."""
    assert loop(line, platform) == [(0.0, 3), (2 / 4, 4)]
    rows = line.sql("select flow_id, source, value, state from ofp.labels order by flow_id")
    assert rows == [("flow0", "HUMAN", "FRAUD", "APPLIED"), ("flow1", "HUMAN", "FRAUD", "APPLIED")]


def test_the_console_shows_what_sql_shows(line: Line, platform: Platform) -> None:
    """Case, labels and the newest decision's share stand in the console's picture as they stand in the tables: before the
    command no case is resolved and the share is 0, after it one is, two labels are by people, and it is a half."""

    def shown_and_stored(number: int, console: Console) -> tuple[list[Any], list[Any]]:
        line.clock.advance(1.0)
        line.work(decision_fabric.WORKER)
        console.look()
        ledgers = console.look()["ledgers"]  # what the tables said is shown with the status after it
        newest = ledgers["decisions"]["newest"]
        assert newest["flow_id"] == f"flow{number}"
        shown = [ledgers["cases"]["RESOLVED"], ledgers["labels"]["HUMAN"], newest["terminal_fraud_share_7d"]]
        [stored] = line.sql(
            "select (select count(*) from case_mgmt.cases where status = 'RESOLVED'),"
            " (select count(*) from label_store.assertions where source = 'HUMAN'),"
            " (convert_from(body, 'UTF8')::jsonb -> 'features' ->> 'terminal_fraud_share_7d')::float8"
            " from df.decisions where flow_id = %s",
            (f"flow{number}",),
        )
        return shown, list(stored)

    case = one_case(line)
    share_of_the_next_flow(line, 7)
    with open_console(line) as console:
        shown, stored = shown_and_stored(7, console)
        assert shown == stored == [0, 0, 0.0]
        with working(line):
            assert platform("cases", "resolve", case, "--disposition", "fraud", "--actor", "ada")[0] == 0
        line.drain(line.activities(case_management.WORKER))
        share_of_the_next_flow(line, 8)
        shown, stored = shown_and_stored(8, console)
        assert shown == stored == [1, 2, 2 / 4]


def test_a_plane_that_takes_in_no_label_leaves_it_open(
    line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red counterpart: with labels read and ignored the next transaction shows nothing."""
    monkeypatch.setattr(feature_labels, "take_in", lambda _connection, _rows: set())
    assert loop(line, platform) == [(0.0, 3), (0.0, 4)]
