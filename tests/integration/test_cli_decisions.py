"""platform decisions and platform posture: the JSON others rely on, pages, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.workers.decision_lane.decision_fabric import WORKER
from tests.integration.lane import bind, flow
from tests.line import ROOT, Line


@pytest.fixture(autouse=True)
def on_this_line(line: Line, monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    """The command works on the test's own database."""
    monkeypatch.setenv("PLATFORM_DSN", line.dsn)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))
    line.begin_run()


def platform(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON object, what was said on stderr."""
    capsys.readouterr()  # what the worker logged until now
    code = run(["--root", str(ROOT), *arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


def test_decisions_are_listed_newest_first_page_by_page(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages of two go through all decisions once; outcome and time narrow them."""
    for n, amount in enumerate((2_500, 600_000, 2_500, 2_500, 2_500)):
        line.append("flows.featured", bind(line, [flow(n, traffic={"amount_minor": amount})]))
        line.work(WORKER)
        line.clock.advance(60)
    seen: list[str] = []
    after: list[str] = []
    for _ in range(3):
        code, page, _ = platform(capsys, "decisions", "list", "--limit", "2", *after)
        assert code == 0
        seen += [row["flow_id"] for row in page["decisions"]]
        after = ["--after", page["next"]] if page["next"] else []
    assert seen == ["flow4", "flow3", "flow2", "flow1", "flow0"]
    _, blocked, _ = platform(capsys, "decisions", "list", "--outcome", "block")
    assert [row["flow_id"] for row in blocked["decisions"]] == ["flow1"]
    _, recent, _ = platform(capsys, "decisions", "list", "--since", "2026-01-01T00:02:30Z")
    assert [row["flow_id"] for row in recent["decisions"]] == ["flow4", "flow3"]


def test_a_decision_is_shown_as_published(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """show --json is the published record; the text names each rule with its reason."""
    line.append("flows.featured", bind(line, [flow(1, traffic={"amount_minor": 600_000})]))
    line.work(WORKER)
    [published] = line.bodies("decisions")
    assert platform(capsys, "decisions", "show", published["decision_id"])[1] == published
    assert run(["--root", str(ROOT), "decisions", "show", published["decision_id"]]) == 0
    text = capsys.readouterr().out
    assert "BLOCK" in text
    assert "amount of 5,000.00 or more" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("decisions", "show", "nothing"), 1, "no decision 'nothing'"),
        (("decisions", "list", "--after", "nothing"), 1, "no decision 'nothing'"),
        (("decisions", "list", "--run", "platform_x"), 1, "no run 'platform_x'"),
        (("decisions", "list", "--since", "yesterday"), 2, "no time with a zone"),
        (("posture", "pin", "PANIC", "--reason", "x"), 2, "PANIC"),
        (("posture", "pin", "NORMAL"), 2, "--reason"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Unknown ids are 1, usage is 2, and one line says what and how to go on."""
    answered, _, errors = platform(capsys, *arguments)
    assert answered == code
    assert words in errors
    assert errors.strip().count("\n") == 0


def test_a_posture_is_pinned_shown_and_released(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """A pin is in force for the next batch with its reason and operator; a release gives it back."""
    assert platform(capsys, "posture", "show")[1]["decided_by"] == "default"
    _, pinned, _ = platform(capsys, "posture", "pin", "degraded_2", "--reason", "features lag")
    assert (pinned["mode"], pinned["decided_by"]) == ("DEGRADED_2", "operator")
    assert pinned["pins"][0]["reason"] == "features lag"
    assert pinned["pins"][0]["pinned_by"]
    bind(line, [flow(1)])
    line.work(WORKER)
    assert [body["posture"]["mode"] for body in line.bodies("decisions")] == ["DEGRADED_2"]
    _, released, _ = platform(capsys, "posture", "release")
    assert (released["mode"], released["sequence"], released["decided_by"]) == ("NORMAL", 0, "default")
    assert len(released["pins"]) == 2


def test_the_profiles_pin_counts_first_and_the_command_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinning what the profile pins otherwise is kept, and the answer says who decides."""
    monkeypatch.setenv("PLATFORM_DECISION_POSTURE_PIN", "FAIL_CLOSED")
    _, pinned, _ = platform(capsys, "posture", "pin", "NORMAL", "--reason", "try")
    assert (pinned["mode"], pinned["decided_by"]) == ("FAIL_CLOSED", "profile")
