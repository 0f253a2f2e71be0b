"""What supervision does by itself: who is silent is ended, who dies too often is held, one cause is one incident."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.incidents import folded
from fraud_daemons.supervision.survivors import end_survivors
from tests.integration.supervision.tiny_platform import QUICK_TIMERS, Platform, make_platform, until


@pytest.fixture
def platform(short_dir: Path) -> Iterator[Platform]:
    made = make_platform(short_dir, **QUICK_TIMERS)
    yield made
    made.down()
    end_survivors(short_dir)


def _replaced(platform: Platform, worker: str, old: int, seconds: float = 20.0) -> None:
    until(lambda: platform.pid(worker) not in (None, old), seconds)


@pytest.mark.parametrize("how", ["stopped", "wedged"])
def test_a_silent_worker_is_ended_and_started_again(platform: Platform, how: str) -> None:
    """A loop that does not turn - stopped by a signal, or wedged and deaf to SIGTERM - is replaced, and the audit names the
    watchdog and how long there was no beat. Its neighbours are left alone, and no two copies ever run."""
    if how == "wedged":
        platform.tell("alpha", "wedged")
    platform.up()
    neighbours = {worker: platform.pid(worker) for worker in ("beta", "door")}
    old = platform.pid("alpha")
    if how == "stopped":
        os.kill(old, signal.SIGSTOP)
    else:
        platform.tell("alpha", "work")  # its successor shall live
    _replaced(platform, "alpha", old)
    until(lambda: platform.worker("alpha").ready)
    exit_, restart = platform.audit("alpha")[-2:]
    assert (exit_["kind"], exit_["cause"], exit_["signal"]) == ("exit", "watchdog", "SIGKILL")
    assert 3.0 <= exit_["beat_age_seconds"] < 10.0
    assert (restart["kind"], restart["cause"]) == ("restart", "watchdog")
    assert platform.copies("alpha") == [platform.pid("alpha")]
    assert platform.doubles() == ""
    assert {worker: platform.pid(worker) for worker in neighbours} == neighbours


def test_a_late_first_beat_and_a_worker_that_waits_are_borne(platform: Platform) -> None:
    """A start that takes longer than the watchdog, and a worker that waits for its database for longer, are not silent."""
    platform.tell("alpha", "late")
    platform.tell("beta", "waiting")
    platform.up(wait=False)
    until(lambda: platform.worker("alpha").ready, 20.0)
    until(lambda: (beat := platform.beat("beta")) is not None and beat.beat_monotonic - beat.since_monotonic > 4.0)
    assert [platform.process(worker).restarts for worker in ("alpha", "beta")] == [0, 0]
    assert platform.worker("beta").status == "running waiting"


def test_a_supervisor_that_stood_still_gives_everybody_their_grace(platform: Platform) -> None:
    """Workers and supervisor stopped together for longer than the watchdog, as on a suspended machine: nobody is ended."""
    platform.up()
    pids = {worker: platform.pid(worker) for worker in ("alpha", "beta", "door")}
    everybody = [platform.client.snapshot().pid, *pids.values()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4.0)
    for pid in everybody:  # the supervisor first: it looks before anybody could beat
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.2)
    until(lambda: platform.worker("door").ready)
    time.sleep(1.5)
    assert {worker: platform.pid(worker) for worker in pids} == pids


def test_too_many_deaths_are_held_until_resume(platform: Platform) -> None:
    """One death more than the window bears and the worker is held with its reason; `up` leaves it so, `resume` starts it."""
    platform.tell("alpha", "crash")
    platform.up(wait=False)
    until(lambda: platform.process("alpha").held, 30.0)
    held = platform.worker("alpha")
    assert held.status == "held"
    assert held.reason.startswith("crash loop: 4 deaths in ")
    assert held.reason.endswith("the last: exit 1")
    (record,) = [r for r in platform.audit("alpha") if r["kind"] == "held"]
    assert (record["cause"], record["reason"]) == ("deaths", held.reason)
    platform.tell("alpha", "work")
    (blocker,) = platform.up().blocking
    assert (blocker.name, blocker.status) == ("alpha", "held")
    assert lifecycle.resume(platform.deployment, ["alpha"], operator="ada").released == ("alpha",)
    until(lambda: platform.worker("alpha").ready)
    assert platform.audit("alpha")[-1]["operator"] == "ada"


def test_deaths_in_a_database_outage_are_not_counted(platform: Platform) -> None:
    """While a worker's beat says that the shared database is away no death counts, not even of one that does not say so;
    after the outage they do."""
    platform.up()
    platform.tell("beta", "waiting")
    until(lambda: any(r["worker"] == "postgres" for r in platform.records("incident")))
    platform.tell("alpha", "crash")
    os.kill(platform.pid("alpha"), signal.SIGKILL)
    until(lambda: len([r for r in platform.audit("alpha") if r["kind"] == "exit"]) > 4, 30.0)
    assert not platform.process("alpha").held
    exits = [r for r in platform.audit("alpha") if r["kind"] == "exit"]
    assert {r["not_counted"] for r in exits} == {"postgres: refused"}
    platform.tell("beta", "work")
    platform.tell("alpha", "work")
    until(lambda: platform.worker("alpha").ready and platform.worker("beta").ready, 30.0)
    os.kill(platform.pid("alpha"), signal.SIGKILL)
    until(lambda: len([r for r in platform.audit("alpha") if r["kind"] == "exit"]) > len(exits))
    assert "not_counted" not in [r for r in platform.audit("alpha") if r["kind"] == "exit"][-1]


def test_a_worker_that_dies_of_its_database_is_not_held(platform: Platform) -> None:
    """What a dying worker last said counts too: one that leaves because of the outage is started again for ever."""
    platform.tell("alpha", "waiting_crash")
    platform.up(wait=False)
    until(lambda: len([r for r in platform.audit("alpha") if r["kind"] == "exit"]) > 4, 30.0)
    assert not platform.process("alpha").held


def test_the_last_words_come_from_the_workers_own_log_when_it_printed_nothing(platform: Platform) -> None:
    """A worker that leaves with its reason in its JSON log only has that line in the audit."""
    platform.tell("alpha", "logged_crash")
    platform.up(wait=False)
    until(lambda: any(r["kind"] == "exit" for r in platform.audit("alpha")))
    exit_ = next(r for r in platform.audit("alpha") if r["kind"] == "exit")
    assert exit_["exit_code"] == 70
    assert exit_["last_log_lines"] == ['{"event": "bug_met", "at": "now"}']


def test_one_outage_is_one_incident_even_over_a_supervisor_that_was_killed(platform: Platform) -> None:
    """Beginning, end and everybody touched stand in one incident, told of again when it lasts; SIGKILL of the supervisor
    in its middle does not break it in two."""
    platform.up()
    for worker in ("alpha", "beta"):
        platform.tell(worker, "waiting")
    until(lambda: any(r["phase"] == "lasting" for r in platform.records("incident")), 20.0)
    os.kill(platform.client.snapshot().pid, signal.SIGKILL)
    platform.up(wait=False)
    platform.tell("door", "waiting")
    lifecycle.start(platform.deployment, ["door"], operator="ada", timeout_seconds=3.0)
    until(lambda: "door" in platform.records("incident")[-1]["workers"], 20.0)
    assert platform.records("incident")[-1]["phase"] == "spread"
    for worker in ("alpha", "beta", "door"):
        platform.tell(worker, "work")
    until(lambda: platform.records("incident")[-1]["phase"] == "ended", 20.0)
    records = platform.records("incident")
    (incident,) = folded(records)
    assert sorted(incident["workers"]) == ["alpha", "beta", "door"]
    assert (incident["worker"], incident["reasons"], incident["lasting"]) == ("postgres", ["postgres: refused"], True)
    assert records[0]["began_at"] == incident["began_at"] < incident["ended_at"]
    assert incident["seconds"] > 2.0
