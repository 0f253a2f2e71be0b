"""Real files go through the five packs: one day of the Handbook against its own oracle, and a file of purchase cards.

The files lie beside the project and are never committed (`../shared/data/README.md`); without them these tests skip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
import pytest

from fraud_daemons.domain.features import WINDOW_DAYS
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.state import features
from tests.handbook import differences_from_oracle, read_handbook
from tests.system.platform_under_test import SHARED_DATA, PlatformUnderTest, wait_until
from tests.system.test_the_line import assert_every_equation_holds
from tests.system.test_whatever_is_killed import streaming

pytestmark = [
    pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the data sets are not beside the project (../shared/data)"),
    pytest.mark.timeout(900),
]

DAY = date(2018, 7, 18)
WARM_FROM = date(2018, 6, 11)  # 37 days: the widest window and the label delay
DAY_TRANSACTIONS = 9_530
PCARD_ROWS = 95_272
SLICE_ROWS = 20_000
LONG_SECONDS = 800

WHAT_MUST_NOT_CHANGE = {
    "decisions": "select flow_id, decision_id, core_digest, body from df.decisions",
    "actions": "select intent_id, status, attempts, completed_at from al.outcomes",
    "chains": "select chain_id, state, closed_at from dla.chains",
    "triggers": "select trigger_id, recorded_at from case_trigger.triggers",
    "cases": "select case_id, status, triggers, version, changed_at from case_mgmt.cases",
    "timeline": "select case_id, entry, kind, body from case_mgmt.timeline",
    "labels": "select label_id, value, recorded_at from label_store.assertions",
    "published": "select topic, event_id, \"position\" from bus.log where topic <> 'control'",
}


@dataclass(frozen=True)
class Day:
    """The Handbook's day after it was streamed."""

    run: str
    world: str
    report: Mapping[str, Any]
    pids: Mapping[str, int]
    """of every worker, before the stream"""


def pids(platform: PlatformUnderTest) -> dict[str, int]:
    return {name: worker["pid"] for name, worker in platform.workers().items()}


def query(platform: PlatformUnderTest, statement: str, run: str) -> list[tuple[Any, ...]]:
    """Plain SQL from outside, %(run)s being the run."""
    with psycopg.connect(platform.dsn()) as connection:
        return connection.execute(statement.encode(), {"run": run}).fetchall()


def decided(platform: PlatformUnderTest, run: str) -> int:
    return int(query(platform, "select count(*) from df.decisions where platform_run_id = %(run)s", run)[0][0])


def vectors(platform: PlatformUnderTest, run: str) -> dict[str, dict[str, Any]]:
    """flow_id -> the feature vector stored with its decision."""
    rows = query(platform, "select flow_id, body from df.decisions where platform_run_id = %(run)s", run)
    bodies = {flow_id: json.loads(bytes(body)) for flow_id, body in rows}
    assert {body["feature_status"] for body in bodies.values()} == {"PRESENT"}
    return {flow_id: body["features"] for flow_id, body in bodies.items()}


def fingerprints(platform: PlatformUnderTest, run: str) -> dict[str, str]:
    """A digest over everything of a run that a repetition must not touch."""
    digest = "select md5(coalesce(string_agg(md5(q::text), '' order by md5(q::text)), '')) from ({} {} platform_run_id = %(run)s) q"
    return {
        name: query(platform, digest.format(sql.replace("%", "%%"), "and" if " where " in sql else "where"), run)[0][0]
        for name, sql in WHAT_MUST_NOT_CHANGE.items()
    }


def self_consistent(vector: Mapping[str, Any]) -> bool:
    """Wider windows hold no less, each holds the transaction itself, and a mean is sum over count."""
    for who in ("card", "terminal"):
        counts = [vector[f"{who}_count_{days}d"] for days in WINDOW_DAYS]
        if counts[0] is None:  # 3,351 purchases name no merchant
            if any(
                vector[f"{who}_{what}_{days}d"] is not None for what in ("count", "sum", "mean") for days in WINDOW_DAYS
            ):
                return False
            continue
        if not 1 <= counts[0] <= counts[1] <= counts[2]:
            return False
        for days, count in zip(WINDOW_DAYS, counts, strict=True):
            if (
                abs(vector[f"{who}_mean_{days}d"] - vector[f"{who}_sum_{days}d"] / count)
                > 1e-9 * vector[f"{who}_sum_{days}d"]
            ):
                return False
    return True


def warm(platform: PlatformUnderTest, run: str) -> None:
    """The days before enter behind the gate, at the feature plane: they are neither decided nor counted as admitted."""
    rows = [
        (derived_id("flow", "handbook", flow[1:]), f"hb-card-{card[1:]}", f"t:hb-terminal-{terminal[2:]}", *rest)
        for flow, card, terminal, *rest in read_handbook(WARM_FROM, date(2018, 7, 17))
    ]
    with psycopg.connect(platform.dsn()) as connection:
        assert features.warm(connection, run, rows) > 600_000  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def day(platform: PlatformUnderTest) -> Day:
    """The Handbook's 18 July streamed flat out through a warmed platform; the feature plane restarts in the middle."""
    world = "handbook_day"
    imported = platform.say(
        "world", "import", str(SHARED_DATA / "handbook_2018-07.parquet"), "--mapping", "handbook", "--name", world,
        "--from-date", DAY.isoformat(), "--to-date", DAY.isoformat(),
    )  # fmt: skip
    assert (imported["transactions"], imported["rejects"]) == (DAY_TRANSACTIONS, 0)
    run = platform.new_run()
    warm(platform, run)
    before = pids(platform)
    with streaming(platform, world=world):
        wait_until(lambda: decided(platform, run) > DAY_TRANSACTIONS // 4, seconds=120, what="a quarter decided")
        platform.say("restart", "online_feature_plane")
        assert decided(platform, run) < DAY_TRANSACTIONS, "the stream was over before the restart"
    return Day(run, world, platform.report(), before)


def test_one_handbook_day_goes_through_the_five_packs(platform: PlatformUnderTest, day: Day) -> None:
    """9,530 transactions are decided, every equation holds, all packs are still running ready, no worker died."""
    assert_every_equation_holds(day.report)
    assert day.report["stages"]["decided"] == DAY_TRANSACTIONS
    assert day.report["terms"]["dead_lettered"] == day.report["terms"]["decided_without_features"] == 0
    assert platform.status()["verdict"] == "running ready"
    changed = {name for name, pid in pids(platform).items() if pid != day.pids[name]}
    assert changed == {"online_feature_plane"}, "the one that was restarted, and no other"


def test_the_features_stored_with_the_decisions_equal_the_oracle(platform: PlatformUnderTest, day: Day) -> None:
    """Card counts and delayed terminal counts exactly, card means to 1e-9, of all 9,530 transactions of the day."""
    stored = vectors(platform, day.run)
    by_transaction = {row[0]: stored[derived_id("flow", "handbook", row[0][1:])] for row in read_handbook(DAY, DAY)}
    assert len(by_transaction) == len(stored) == DAY_TRANSACTIONS
    wrong = differences_from_oracle(by_transaction)
    assert not wrong, f"{len(wrong)} differ: {wrong[:5]}"
    assert all(map(self_consistent, stored.values()))


def test_the_same_stream_again_changes_nothing(platform: PlatformUnderTest, day: Day) -> None:
    """`--from start`: every event is DUPLICATE; no decision, action, case or label is new or different."""
    before = fingerprints(platform, day.run)
    again = platform.stream(day.world, "--from", "start", "--timeout", "250")
    for name, output in {**again["outputs"], "truth": again["truth"]}.items():
        assert output["duplicate"] == output["sent"] > 0, name
        assert (output["admitted"], output["quarantined"]) == (0, 0), name
    assert again["outputs"]["traffic"]["sent"] == DAY_TRANSACTIONS
    assert_every_equation_holds(again)
    assert again["stages"] == day.report["stages"]
    assert fingerprints(platform, day.run) == before
    assert platform.status()["verdict"] == "running ready"


@pytest.mark.parametrize(
    "rows", [SLICE_ROWS, pytest.param(PCARD_ROWS, marks=pytest.mark.slow)], ids=["first_20000", "whole_file"]
)
def test_the_purchase_card_file_goes_through_the_five_packs(platform: PlatformUnderTest, rows: int) -> None:
    """Dates without clock time, blank merchants, one outlier: each row is accounted for, sent flat out, decided, and on
    every line of the report; all packs are still running ready, no worker died."""
    world = f"pcard_{rows}"
    imported = platform.say(
        "world", "import", str(SHARED_DATA / "pcard_transactions.csv.gz"), "--mapping", "pcard", "--name", world,
        "--limit", str(rows),
    )  # fmt: skip
    assert imported["rows"] == PCARD_ROWS == imported["transactions"] + imported["rejects"] + imported["beyond_limit"]
    assert imported["transactions"] == rows - imported["rejects"] == rows
    run = platform.new_run()
    before = pids(platform)
    report = platform.stream(world, "--timeout", str(LONG_SECONDS), timeout=LONG_SECONDS + 60)
    assert_every_equation_holds(report)
    assert {name: output["admitted"] for name, output in report["outputs"].items()} == dict.fromkeys(
        report["outputs"], rows
    )
    assert report["stages"]["decided"] == report["stages"]["featured"] == rows
    assert report["terms"]["dead_lettered"] == report["terms"]["bound_partial_or_missing"] == 0
    assert platform.status()["verdict"] == "running ready"
    assert pids(platform) == before, "a worker died under load"
    stored = vectors(platform, run)
    assert len(stored) == rows
    assert all(map(self_consistent, stored.values()))
