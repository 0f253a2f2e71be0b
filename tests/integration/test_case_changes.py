"""platform cases assign, note, resolve: one owner writes, nobody's change is lost, a disposition becomes a label."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.domain.case_changes import request
from fraud_daemons.domain.cases import EntryKind
from fraud_daemons.errors import ExitCode
from fraud_daemons.workers.case_labels import case_management, label_store
from fraud_daemons.workers.decision_lane import decision_fabric
from tests.case_labels_records import trigger
from tests.integration.lane import bind, flow
from tests.line import ROOT, at_work

if TYPE_CHECKING:
    from pathlib import Path

    from tests.line import Line

Platform = Callable[..., tuple[int, str, str]]


@pytest.fixture
def platform(
    line: Line, short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Platform:
    """The command, on the line's database: (exit code, stdout, stderr)."""
    monkeypatch.setenv("PLATFORM_DSN", line.dsn)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["--root", str(ROOT), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def working(line: Line) -> AbstractContextManager[None]:
    """case_management at work, in a thread of its own."""
    return at_work(lambda: line.activities(case_management.WORKER))


def one_case(line: Line, flows: int = 2) -> str:
    """The id of a case with `flows` decided flows of one card."""
    line.begin_run()
    bound = [flow(n, cards=1, platform_run_id=line.run) for n in range(flows)]
    line.append("flows.featured", bind(line, bound))
    line.drain(line.activities(decision_fabric.WORKER))
    triggers = [
        {**trigger(n, run=line.run, card="card0"), "flow_id": f"flow{n}", "subject": "card0"} for n in range(flows)
    ]
    line.append("case_triggers", triggers)
    line.drain(line.activities(case_management.WORKER))
    ((case,),) = line.sql("select case_id from case_mgmt.cases")
    return str(case)


def test_a_case_is_assigned_noted_and_resolved_by_command(line: Line, platform: Platform) -> None:
    """Each change is one entry of the timeline with its actor; the resolution closes the case and names its flows."""
    case = one_case(line)
    with working(line):
        code, out, err = platform("cases", "assign", case, "--to", "ada", "--actor", "lead", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1]) == {
            "platform_run_id": line.run, "case_id": case, "change": "ASSIGNED", "entry": 3, "flows": [],
        }  # fmt: skip
        assert platform("cases", "note", case, "called the cardholder", "--actor", "ada")[0] == 0
        code, out, _ = platform("cases", "resolve", case, "--disposition", "fraud", "--actor", "ada", "--json")
        assert (code, json.loads(out.splitlines()[-1])["flows"]) == (0, ["flow0", "flow1"])
    rows = line.sql("select entry, kind, body ->> 'actor' from case_mgmt.timeline order by entry")
    assert rows[2:] == [(3, "ASSIGNED", "lead"), (4, "NOTE", "ada"), (5, "RESOLVED", "ada")]
    assert line.sql("select status, disposition, assignee from case_mgmt.cases") == [("RESOLVED", "FRAUD", "ada")]


def test_a_disposition_becomes_a_label_of_each_flow(line: Line, platform: Platform) -> None:
    """A resolution as fraud is a HUMAN label of both flows, on the topic and as-of the moment of the resolution, not before."""
    case = one_case(line)
    with working(line):
        assert platform("cases", "resolve", case, "--disposition", "FRAUD", "--actor", "ada")[0] == 0
    line.drain(line.activities(label_store.WORKER))
    published = [body for body in line.bodies("labels") if body.get("source") == "HUMAN"]
    assert sorted((b["flow_id"], b["value"]) for b in published) == [("flow0", "FRAUD"), ("flow1", "FRAUD")]
    code, out, _ = platform("labels", "as-of", "flow0", "--json")
    assert (code, json.loads(out.splitlines()[-1])["label"]["value"]) == (0, "FRAUD")
    code, out, _ = platform("labels", "as-of", "flow0", "--at", "2026-01-01T00:00:00Z", "--json")
    assert (code, json.loads(out.splitlines()[-1])["label"]) == (0, None)


def test_who_comes_second_is_told_who_was_first(line: Line, platform: Platform) -> None:
    """A change that expects another version is refused and says what happened; a resolved case stays as it is."""
    case = one_case(line)
    with working(line):
        assert platform("cases", "assign", case, "--to", "ada", "--actor", "lead")[0] == 0
        code, _, err = platform(
            "cases", "resolve", case, "--disposition", "LEGIT", "--expected-version", "1", "--actor", "bob"
        )
        assert code == ExitCode.NO
        assert "ASSIGNED by lead" in err
        assert platform("cases", "resolve", case, "--disposition", "FRAUD", "--actor", "ada")[0] == 0
        code, _, err = platform("cases", "assign", case, "--to", "bob", "--actor", "bob")
        assert code == ExitCode.NO
        assert "resolved as FRAUD by ada" in err
    assert line.sql("select disposition, assignee from case_mgmt.cases") == [("FRAUD", "ada")]
    assert line.sql("select count(*) from case_mgmt.timeline where kind in ('ASSIGNED', 'RESOLVED')") == [(2,)]


def test_a_request_that_comes_twice_is_one_change(line: Line) -> None:
    """The same request again, and a restart between, make one entry and one answer."""
    case = one_case(line)
    body = request(
        platform_run_id=line.run, case_id=case, kind=EntryKind.NOTE, actor="ada", at="2026-01-01T00:00:00.000000Z",
        expected_version=None, text="once",
    )  # fmt: skip
    for _ in range(2):
        line.append("control", [body, body], key=lambda _: case, event_id=lambda b: b["request_id"])
        line.drain(line.activities(case_management.WORKER))
    assert line.sql("select count(*) from case_mgmt.timeline where kind = 'NOTE'") == [(1,)]
    assert line.sql("select outcome, entry from case_mgmt.changes") == [("APPLIED", 3)]


def test_flows_of_another_case_are_not_disposed_of(line: Line) -> None:
    """A resolution that names a flow which is not in the case is refused whole."""
    case = one_case(line)
    body = request(
        platform_run_id=line.run, case_id=case, kind=EntryKind.RESOLVED, actor="x", at="2026-01-01T00:00:00.000000Z",
        expected_version=None, disposition="FRAUD", flows=(("flow0", "2018-07-18T12:00:00.000000Z"), ("elsewhere", "2018")),
    )  # fmt: skip
    line.append("control", [body], key=lambda _: case, event_id=lambda b: b["request_id"])
    line.drain(line.activities(case_management.WORKER))
    assert line.sql("select outcome, detail from case_mgmt.changes") == [
        ("REFUSED", "flow elsewhere is not in this case")
    ]
    assert line.sql("select status from case_mgmt.cases") == [("OPEN",)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("assign", "CASE"), ExitCode.USAGE, "--to NAME or --nobody"),
        (("assign", "CASE", "--to", " "), ExitCode.USAGE, "1 to 200 characters"),
        (("note", "CASE", ""), ExitCode.USAGE, "1 to 10000 characters"),
        (("resolve", "CASE", "--disposition", "maybe"), ExitCode.USAGE, "maybe"),
        (("resolve", "CASE", "--disposition", "FRAUD", "--at", "yesterday"), ExitCode.USAGE, "2018-07-18T12:00:00Z"),
        (("resolve", "CASE", "--disposition", "FRAUD", "--at", "2001-01-01T00:00:00Z"), ExitCode.USAGE, "occurred at"),
        (("note", "nosuchcase", "text"), ExitCode.NO, "platform cases list"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_sent(
    line: Line, platform: Platform, words: tuple[str, ...], code: int, said: str
) -> None:
    """Wrong words, times before the transaction, unknown cases: one line that says what would be right."""
    case = one_case(line)
    found, _, err = platform("cases", *[case if word == "CASE" else word for word in words], "--actor", "ada")
    assert (found, err.count("\n")) == (code, 1)
    assert said in err
    assert not line.bodies("control")


def test_nobody_there_is_said_and_the_request_is_carried_out_once(line: Line, platform: Platform) -> None:
    """While case_management is down the command says so; the request stays and is one entry when it is back."""
    case = one_case(line)
    code, _, err = platform("cases", "note", case, "later", "--actor", "ada", "--timeout", "1")
    assert code == ExitCode.UNKNOWN
    assert "is case_management running" in err
    line.drain(line.activities(case_management.WORKER))
    assert line.sql("select count(*) from case_mgmt.timeline where kind = 'NOTE'") == [(1,)]
