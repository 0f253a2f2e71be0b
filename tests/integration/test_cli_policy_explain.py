"""platform policy and platform explain on a real database: what is refused changes nothing, what is activated decides."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.domain.decisions import decision_id
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.decision_lane.decision_fabric import WORKER
from tests.integration.lane import bind, flow, pin
from tests.line import ROOT, Line
from tests.unit.test_policy_check import GOOD_RULE, HEAD

STRICT = HEAD + GOOD_RULE.replace("weight = 40", "weight = 100")


@pytest.fixture(autouse=True)
def root(line: Line, monkeypatch: pytest.MonkeyPatch, short_dir: Path, tmp_path: Path) -> Path:
    """A project folder of the test's own, whose commands work on the test's database."""
    monkeypatch.setenv("PLATFORM_DSN", line.dsn)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))
    folder = tmp_path / "project"
    for part in ("config", "packs"):
        shutil.copytree(ROOT / part, folder / part)
    line.begin_run()
    return folder


def say(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, Any]:
    """Exit code and the JSON object, or the one line on stderr."""
    capsys.readouterr()
    code = run(["--root", str(root), *words, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out.startswith("{") else said.err + said.out


def test_an_activation_decides_from_the_next_batch_without_a_restart(
    line: Line, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same running worker decides by the file, then by the activated policy, and goes on when its file is gone; a
    policy with a problem is refused as a whole; the list says who, when and which."""
    context = line.context_for(WORKER)
    context = replace(context, profile=replace(context.profile, root=root))
    activities = decision_fabric.build(context)

    def decide(number: int) -> tuple[Any, ...]:
        line.append("flows.featured", bind(line, [flow(number)]))
        line.drain(activities)
        return line.sql("select policy_id, outcome from df.decisions where flow_id = %s", (f"flow{number}",))[0]

    assert decide(1) == ("baseline", "ALLOW")
    file = root / "config" / "policies" / "strict.toml"
    file.write_text(STRICT.replace("reason =", "reasn ="))
    code, said = say(capsys, root, "policy", "activate", "strict", "--reason", "try")
    assert code == 1
    assert "nothing was changed: line 7, rule first" in str(said)
    assert line.sql("select count(*) from control.policies") == [(0,)]
    file.write_text(STRICT)
    code, said = say(capsys, root, "policy", "activate", "strict", "--reason", "attack")
    assert (code, said["sequence"], said["already_active"]) == (0, 1, False)
    assert decide(2) == ("p", "BLOCK")
    assert say(capsys, root, "policy", "activate", "strict", "--reason", "again")[1]["already_active"]
    file.unlink()
    assert decide(3) == ("p", "BLOCK")
    code, said = say(capsys, root, "policy", "list")
    assert (said["decides"], said["by"], [a["reason"] for a in said["activations"]]) == (
        "strict",
        "activation",
        ["attack"],
    )
    assert line.sql("select digest, document from control.policies") == [(said["digest"], STRICT)]
    assert say(capsys, root, "policy", "activate", "nowhere", "--reason", "x")[0] == 1


def test_check_answers_no_with_every_problem(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 and a list of rule and line; exit 0 for a good one; one line for a file that is not there."""
    file = root / "bad.toml"
    file.write_text('import = "os"\n' + HEAD + GOOD_RULE.replace("amount_minor", "is_fraud"))
    code, said = say(capsys, root, "policy", "check", str(file))
    assert (code, said["ok"], [(p["line"], p["rule"]) for p in said["problems"]]) == (
        1,
        False,
        [(1, None), (12, "first")],
    )
    assert say(capsys, root, "policy", "check", str(root / "config/policies/baseline.toml"))[0] == 0
    code, said = say(capsys, root, "policy", "check", str(root / "none.toml"))
    assert (code, "cannot be read" in str(said)) == (1, True)


DEFECTS: list[tuple[str, str, int, str | None, str]] = [
    ("unknown_field", HEAD + GOOD_RULE.replace("amount_minor", "amount_mino"), 11, "first", "amount_mino"),
    ("unknown_key", HEAD + GOOD_RULE.replace("weight", "wait"), 10, "first", "unknown key 'wait'"),
    ("type_error", HEAD + GOOD_RULE.replace("value = 1000", 'value = "much"'), 11, "first", "'much' is not"),
    ("weight_type", HEAD + GOOD_RULE.replace("weight = 40", "weight = 4.5"), 10, "first", "whole number"),
    ("unreachable", HEAD + GOOD_RULE.replace("weight = 40", 'weight = 0\noutcome = "BLOCK"')
     + GOOD_RULE.replace("first", "second").replace("1000", "2000"), 13, "second", "unreachable: rule 'first'"),
    ("contradiction", HEAD + GOOD_RULE.replace('{ field', '{ all = [{ field = "amount_minor", op = "<", value = 5 }, { field')
     .replace("1000 }", "1000 }] }"), 11, "first", "can never fire"),
    ("import_key", 'import = "os"\n' + HEAD + GOOD_RULE, 1, None, "imports and runs nothing"),
    ("import_in_a_rule", HEAD + GOOD_RULE + 'python = "__import__(1)"\n', 12, "first", "imports and runs nothing"),
    ("reads_a_label", HEAD + GOOD_RULE.replace("amount_minor", "fraud_disposition"), 11, "first", "label"),
    ("not_toml", HEAD + "[[rules]\n", 7, None, "not valid TOML"),
    ("empty", "", 1, None, "policy_id"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "line_number", "rule", "words"), DEFECTS, ids=[each[0] for each in DEFECTS])
def test_a_defect_is_refused_by_check_and_by_activate_and_nothing_is_half_done(
    name: str, text: str, line_number: int, rule: str | None, words: str,
    line: Line, root: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`check` names rule and line, `activate` refuses with the first of them in one line: no policy stored, no activation,
    no governance event, and the policy that decides goes on."""
    file = root / "config" / "policies" / f"{name}.toml"
    file.write_text(text)
    code, said = say(capsys, root, "policy", "check", str(file))
    assert (code, said["ok"]) == (1, False)
    told = [(p["line"], p["rule"]) for p in said["problems"] if words in p["problem"]]
    assert told[:1] == [(line_number, rule)], said["problems"]
    before = line.sql("select count(*) from control.governance")
    code = run(["--root", str(root), "policy", "activate", name, "--reason", "x"])
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (1, 1)
    assert "is refused, nothing was changed" in err
    assert line.sql(
        "select (select count(*) from control.policies), (select count(*) from control.policy_activations)"
    ) == [(0, 0)]
    assert line.sql("select count(*) from control.governance") == before
    line.append("flows.featured", bind(line, [flow(1)]))
    line.work(WORKER)
    assert line.sql("select policy_id from df.decisions") == [("baseline",)]


@pytest.mark.parametrize("raw", [b"\xff\xfe policy", b"\0" * 10, b"x = " + b"[" * 5000, b"a" * (1024 * 1024 + 1)])
def test_bytes_that_are_no_policy_are_refused_in_a_line(
    raw: bytes, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not UTF-8, NUL, brackets without end, a megabyte of nothing: exit 1 and what is wrong, never a traceback."""
    file = tmp_path / "raw.toml"
    file.write_bytes(raw)
    code, said = say(capsys, root, "policy", "check", str(file))
    assert code == 1
    assert "bug" not in str(said)


def test_a_person_understands_why(line: Line, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rules that fired with what they saw, how far the thresholds were, what would have changed it; under a rung that
    forbids features the explanation says so; trimmed from the bus it says what is missing; unknown is exit 1."""
    large = flow(1, traffic={"amount_minor": 45_000})
    line.append("flows.featured", bind(line, [large]))
    line.work(WORKER)
    identity = decision_id(line.run, "flow1")
    code, said = say(capsys, root, "explain", identity)
    explanation = said["explanation"]
    fired = {rule["rule_id"]: rule for rule in explanation["rules"] if rule["fired"]}
    assert code == 0
    assert explanation["same"]
    assert set(fired) == {reason["rule_id"] for reason in said["decision"]["reasons"]}
    assert fired["amount_high"]["saw"] == {"amount_minor": 45_000}
    assert fired["amount_high"]["condition"] == "amount_minor > 40000"
    assert any("without amount_high it would be" in change for change in explanation["would_change"])
    run(["--root", str(root), "explain", identity])
    text = capsys.readouterr().out
    assert "amount above 400.00" in text
    assert "saw amount_minor 45000" in text
    assert "posture   NORMAL (0)" in text
    pin(line, "FAIL_CLOSED")
    bind(line, [flow(2)])
    line.work(WORKER)
    code, said = say(capsys, root, "explain", decision_id(line.run, "flow2"))
    assert (said["decision"]["outcome"], said["decision"]["feature_status"]) == ("REVIEW", "ABSENT")
    assert {rule["asked"] for rule in said["explanation"]["rules"]} == {True, False}
    line.sql("delete from bus.log where topic = 'flows.featured'")
    code, said = say(capsys, root, "explain", identity)
    assert (code, said["explanation"], "no longer on the bus" in said["missing"]) == (0, None, True)
    code, said = say(capsys, root, "explain", "f" * 32)
    assert code == 1
    assert "no decision" in str(said)
