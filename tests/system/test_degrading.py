"""The ladder over a whole platform: a stage and a store that fall silent, seen in the posture and in the decisions."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.system.platform_under_test import PlatformUnderTest, wait_until
from tests.system.test_the_line import assert_every_equation_holds
from tests.system.test_whatever_is_killed import streaming

FALL_SECONDS = 2.0
LOOKS_SECONDS = 1.0
"""What this test itself needs to see it: one command, on a machine that also streams."""
CLIMB_SECONDS = 40.0


@pytest.fixture
def unpinned(platform: PlatformUnderTest) -> Iterator[PlatformUnderTest]:
    """The shared platform with its posture in the ladder's hands."""
    platform.say("posture", "release")
    try:
        yield platform
    finally:
        platform.say("posture", "pin", "NORMAL", "--reason", "runs are compared")


def posture(platform: PlatformUnderTest) -> tuple[str, str]:
    """(mode, reason) in force by the ladder; NORMAL before its first step."""
    with psycopg.connect(platform.dsn()) as connection:
        row = connection.execute("select mode, reason from dl.postures order by sequence desc limit 1").fetchone()
    return row or ("NORMAL", "")


def falls_to(platform: PlatformUnderTest, mode: str, signal_name: str, fault: Callable[[], Any]) -> None:
    """The fact: within 2 s of the fault the posture is `mode`, and names the signal."""
    fault()
    wait_until(
        lambda: posture(platform)[0] == mode, seconds=FALL_SECONDS + LOOKS_SECONDS, every=0.05,
        what=f"{mode} after the fault",
    )  # fmt: skip
    assert signal_name in posture(platform)[1]


def decided_under(platform: PlatformUnderTest, run: str) -> dict[tuple[str, str], int]:
    """Decisions of a run by (posture, status of the features)."""
    with psycopg.connect(platform.dsn()) as connection:
        rows = connection.execute(
            "select posture_mode, convert_from(body, 'UTF8')::jsonb ->> 'feature_status', count(*) from df.decisions"
            " where platform_run_id = %s group by 1, 2",
            (run,),
        ).fetchall()
    return {(mode, status): count for mode, status, count in rows}


def test_a_silent_stage_and_a_silent_store_bring_the_posture_down_and_it_climbs_back(
    unpinned: PlatformUnderTest,
) -> None:
    """Under a stream the feature plane is frozen, later the object store: down within 2 s each, decisions go on without
    features and say so, up again by itself after the quiet period; nothing is lost by it."""
    platform = unpinned
    platform.make_world("demo", 5000)
    run = platform.new_run()
    wait_until(lambda: posture(platform)[0] == "NORMAL", seconds=CLIMB_SECONDS, what="NORMAL before the test")
    plane, store = platform.pid("online_feature_plane"), objectstore_pid(platform)
    with streaming(platform, "--rate", "60", "--max-events-per-output", "2400", world="demo"):
        wait_until(lambda: sum(decided_under(platform, run).values()) > 100, seconds=30, what="decisions flow")
        try:
            falls_to(platform, "DEGRADED_2", "features", lambda: platform.kill(plane, signal.SIGSTOP))
            before = sum(decided_under(platform, run).values())
            wait_until(
                lambda: decided_under(platform, run).get(("DEGRADED_2", "ABSENT"), 0) > 20, seconds=10,
                what="decisions go on without features",
            )  # fmt: skip
            wait_until(lambda: sum(decided_under(platform, run).values()) > before, seconds=10, what="decisions go on")
        finally:
            platform.kill(plane, signal.SIGCONT)
        wait_until(lambda: posture(platform)[0] == "NORMAL", seconds=CLIMB_SECONDS, what="the climb after the stage")
        try:
            falls_to(platform, "DEGRADED_1", "store", lambda: platform.kill(store, signal.SIGSTOP))
        finally:
            platform.kill(store, signal.SIGCONT)
        wait_until(lambda: posture(platform)[0] == "NORMAL", seconds=CLIMB_SECONDS, what="the climb after the store")
    report = platform.report()
    assert_every_equation_holds(report)
    modes = decided_under(platform, run)
    assert {mode for mode, _ in modes} >= {"NORMAL", "DEGRADED_2"}, modes
    assert report["terms"]["decided_without_features"] == sum(
        count for (_, status), count in modes.items() if status == "ABSENT"
    )


def objectstore_pid(platform: PlatformUnderTest) -> int:
    """The pid of the object store as `status` tells it."""
    [pid] = [service["pid"] for service in platform.status()["substrate"] if service["service"] == "objectstore"]
    return int(pid)
