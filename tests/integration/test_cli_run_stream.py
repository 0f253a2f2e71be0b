"""platform run and platform stream, from the command line to the producer's totals, on a real database and gate."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.acceptance import streaming
from fraud_daemons.cli import main
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.worlds.generator import make_world
from tests.gate import free_port, open_gate, prepare
from tests.line import ROOT, Line
from tests.producing import OTHER_WORKERS, producer, work_until_ended, write_beat


@pytest.fixture
def _platform(line: Line, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command works on the test's database and run directory."""
    monkeypatch.setenv("PLATFORM_DSN", line.dsn)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))
    monkeypatch.setenv("PLATFORM_GATE_PORT", str(free_port()))
    monkeypatch.chdir(ROOT)
    make_world(short_dir / "worlds", name="tiny", transactions=60, seed=7, currency="USD")


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON object of a command."""
    capsys.readouterr()
    code = main.run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("_platform")
def test_runs_begin_are_listed_and_shown(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """`run new` prints its id; a second one in the same second collides loudly; list and show know it."""
    code, begun = say(capsys, "run", "new", "--live", "--note", "a trial")
    assert code == 0
    assert begun["platform_run_id"].startswith("platform_2")
    assert (begun["live"], begun["note"]) == (True, "a trial")
    collided = [say(capsys, "run", "new")[0] for _ in range(3)]  # at least two of four fall into one second
    assert 1 in collided
    code, listed = say(capsys, "run", "list")
    assert begun in listed["runs"]
    code, shown = say(capsys, "run", "show", begun["platform_run_id"])
    assert (code, shown) == (0, begun)
    assert say(capsys, "run", "show", "platform_20000101T000000Z")[0] == 1


@pytest.mark.usefixtures("_platform")
def test_a_stream_is_asked_for_and_its_totals_come_back(
    line: Line, short_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`platform stream` writes request and message together; the producer's totals per output come back."""
    prepare(line)
    for worker in OTHER_WORKERS:
        write_beat(short_dir, worker)
    _, asked = say(capsys, "stream", "--world", "tiny", "--max-events-per-output", "20", "--no-wait")
    profile = load_profile("local_parity", root=ROOT, environment=os.environ)
    with open_gate(line):
        work_until_ended(line, producer(line))
    totals = streaming.wait_for_stream(profile, asked["stream_id"], timeout_seconds=5)
    assert totals["platform_run_id"] == line.run
    for output in OUTPUTS:
        assert totals["outputs"][output] == {
            "sent": 20, "admitted": 20, "duplicate": 0, "quarantined": 0, "stop_reason": "max_events",
        }  # fmt: skip
    assert line.sql("select ordinal, world, request ->> 'from' from control.streams") == [(1, "tiny", "cursor")]


@pytest.mark.usefixtures("_platform")
def test_what_cannot_be_streamed_is_said_in_one_line(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """No run, an unknown world, rate together with speedup: each an error and nothing on the bus."""
    assert say(capsys, "stream", "--world", "tiny", "--no-wait")[0] == 1
    line.begin_run()
    assert say(capsys, "stream", "--world", "nowhere", "--no-wait")[0] == 78
    assert say(capsys, "stream", "--world", "tiny", "--rate", "5", "--speedup", "2")[0] == 2
    assert line.records("control") == []
    code, asked = say(capsys, "stream", "--world", "tiny", "--no-wait")
    assert code == 0
    assert [body["stream_id"] for body in line.bodies("control")] == [asked["stream_id"]]
    assert main.run(["stream", "--world", "tiny", "--timeout", "1"]) == 1
    assert "the producer is not running" in capsys.readouterr().err
