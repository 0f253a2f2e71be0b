"""A copy that slept through its successor's start: it wakes up, commits nothing, and leaves with its reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.observability.heartbeat import read_heartbeat
from fraud_daemons.observability.process_identity import frozen
from tests.copy_process import INPUT, OUTPUT
from tests.line import ROOT, RUN, Line

RECORDS = 300


class Copies:
    """Copies of one worker on one database, each a process that holds no lock the others wait for."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        line.sql("create table public.done (copy text, event_id text)")

    def start(self, copy: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.copy_process", self.line.dsn, str(self.line.run_dir), copy]
        self.started[copy] = subprocess.Popen(command, cwd=ROOT)
        return self.started[copy]

    def done(self, copy: str) -> int:
        ((count,),) = self.line.sql("select count(*) from public.done where copy = %s", (copy,))
        return int(count)

    def reason(self, copy: str) -> tuple[str, str | None] | None:
        beat = read_heartbeat(self.line.run_dir / f"{copy}.json")
        return (beat.state, beat.reason) if beat else None


@pytest.fixture
def copies(line: Line) -> Iterator[Copies]:
    made = Copies(line)
    yield made
    for process in made.started.values():
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("where", ["within a transaction", "anywhere"])
def test_a_thawed_copy_commits_nothing_and_leaves(copies: Copies, where: str) -> None:
    """SIGSTOP, a successor takes over and works, SIGCONT: not one row or record of the old copy is added, it leaves with
    code 1 and says why, and every record was taken exactly once by one of the two."""
    line = copies.line
    line.append(INPUT, _records(0, RECORDS))
    if where == "within a transaction":
        (line.run_dir / "old.slow").touch()
    old = copies.start("old")
    _until(lambda: copies.done("old") > 0)
    if where == "within a transaction":
        (line.run_dir / "old.within").unlink()
        _until(lambda: (line.run_dir / "old.within").exists())
    os.kill(old.pid, signal.SIGSTOP)
    _until(lambda: frozen(old.pid))
    before = copies.done("old")
    copies.start("new")
    if where == "within a transaction":
        _until(lambda: copies.done("new") > 20)
    else:  # it may hold locks for which the new one waits; there a watchdog would end it
        _until(lambda: line.sql("select min(epoch) from checkpoints.positions where worker = 'label_store'") == [(2,)])
    os.kill(old.pid, signal.SIGCONT)
    assert old.wait(30) == 1
    assert copies.reason("old") == ("failing", "another copy of label_store took over")
    line.append(INPUT, _records(RECORDS, 50))
    expected = sorted(record["case_id"] for record in _records(0, RECORDS + 50))
    _until(lambda: copies.done("new") + copies.done("old") >= len(expected))
    assert copies.done("old") == before
    assert sorted(event_id for (event_id,) in line.sql("select event_id from public.done")) == expected
    assert sorted(record.event_id for record in line.records(OUTPUT)) == expected
    assert copies.reason("new") == ("ready", None)


def _records(start: int, count: int) -> list[dict[str, Any]]:
    return [{"case_id": f"case-{n:04}", "platform_run_id": RUN} for n in range(start, start + count)]


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited state did not come"
        time.sleep(0.01)


def test_the_frozen_state_is_seen(tmp_path: Path) -> None:
    """What the tests here wait for: a process that SIGSTOP has reached is frozen, a running one is not."""
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        assert not frozen(sleeper.pid)
        os.kill(sleeper.pid, signal.SIGSTOP)
        _until(lambda: frozen(sleeper.pid))
        sleeper.kill()
    assert not frozen(sleeper.pid)
