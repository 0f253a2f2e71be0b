"""How many database sessions a platform at work has, and how many it opens: as few as it says, and none in a steady state."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from tests.system.platform_under_test import PlatformUnderTest

TRANSACTIONS = 400
GATE_THREADS = 4
STREAMS_MAX = 4


def opened(platform: PlatformUnderTest) -> dict[str, tuple[int, int]]:
    """By worker: its process and how many sessions that process has opened so far."""
    beats = [json.loads(path.read_text()) for path in (platform.run_dir / "beats").glob("*.json")]
    return {beat["worker"]: (beat["pid"], beat["connector"]["opened"]) for beat in beats if beat.get("connector")}


def sessions(platform: PlatformUnderTest) -> Counter[str]:
    """Sessions on the server by worker."""
    with psycopg.connect(platform.dsn()) as connection:
        names = connection.execute(
            "select split_part(application_name, '/', 2) from pg_stat_activity where application_name like '%/%/%'"
            " and application_name not like 'platform/%'"
        ).fetchall()
    return Counter(name for (name,) in names)


def test_a_stream_opens_no_session_and_no_worker_has_more_than_the_budget_counts(platform: PlatformUnderTest) -> None:
    """The bar: 0 sessions opened per 1,000 events in a steady state, which is there when each of the gate's threads has had
    its first request. And the sum that is checked before start is a bound: two a worker, one more for each gate thread."""
    platform.make_world("sessions", TRANSACTIONS)
    grown: dict[str, int] = {}
    for _ in range(STREAMS_MAX):
        before = opened(platform)
        platform.new_run()
        platform.stream("sessions")
        after = opened(platform)
        assert {worker: pid for worker, (pid, _) in after.items()} == {
            worker: pid for worker, (pid, _) in before.items()
        }
        grown = {
            worker: number - before[worker][1] for worker, (_, number) in after.items() if number != before[worker][1]
        }
        if not grown:
            break
    assert grown == {}, f"sessions opened while more than {4 * TRANSACTIONS} events passed"
    found = sessions(platform)
    assert len(found) >= 15, "of the sixteen the console has a session only while somebody looks"
    allowed = {worker: 2 + (GATE_THREADS if worker == "ingestion_gate" else 0) for worker in found}
    assert not {worker: number for worker, number in found.items() if number > allowed[worker]}
