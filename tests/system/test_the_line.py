"""One command, five packs, a transaction goes the whole way: what a newcomer sees, held by ids."""

from __future__ import annotations

import json
import time
import tomllib
import urllib.error
import urllib.request
from typing import Any

import psycopg
import pytest

from tests.system.platform_under_test import ROOT, PlatformUnderTest

PACKS = ["rtdl_core", "decision_lane", "case_labels", "obs_gov", "control_ingress"]


def post(platform: PlatformUnderTest, path: str, body: Any, *, key: str | None = None) -> tuple[int, Any]:
    """POST JSON to the gate with the client's key (or another); (status, answer)."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{platform.gate_port()}{path}",
        data=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "X-API-Key": key if key is not None else platform.secret("gate", "client_key"),
        },
    )
    return _answer(request)


def get(platform: PlatformUnderTest, path: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{platform.gate_port()}{path}", headers={"X-API-Key": platform.secret("gate", "client_key")}
    )
    return _answer(request)


def _answer(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own gate on loopback
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def assert_every_equation_holds(report: Any) -> None:
    """PASS, and every line proves something: nothing missing, nothing surplus."""
    bad = [e for e in report["equations"] if e["missing"] or e["surplus"]]
    assert not bad, json.dumps(bad, indent=1)
    assert report["verdict"] == "PASS"


def test_five_packs_are_running_ready(platform: PlatformUnderTest) -> None:
    """After `up` every worker of all five packs is running ready, and the two services beneath them."""
    status = platform.status()
    assert status["verdict"] == "running ready"
    named = {path.stem: tomllib.loads(path.read_text())["workers"] for path in (ROOT / "packs").glob("*.toml")}
    assert sorted(named) == sorted(PACKS)
    assert {pack["pack"]: [w["worker"] for w in pack["workers"]] for pack in status["packs"]} == named
    assert [service["status"] for service in status["substrate"]] == ["running ready"] * 2


def test_up_twice_is_harmless(platform: PlatformUnderTest) -> None:
    """`up` on a running platform changes no pid."""
    before = {name: worker["pid"] for name, worker in platform.workers().items()}
    platform.up()
    assert {name: worker["pid"] for name, worker in platform.workers().items()} == before


def test_status_answers_quickly(platform: PlatformUnderTest) -> None:
    """`status` does not wait for anything: it reads files and asks supervisord once."""
    began = time.monotonic()
    platform.status()
    assert time.monotonic() - began < 3.0, "ten times the target: it waits for something"


def test_gate_20_then_gate_200_admit_80_then_800(platform: PlatformUnderTest) -> None:
    """Two requests on one run: the second continues behind the cursor; then everything again is DUPLICATE and changes nothing."""
    platform.make_world("demo", 5000)
    run = platform.new_run()
    first = platform.stream("demo", "--max-events-per-output", "20")
    assert sum(o["admitted"] for name, o in first["outputs"].items() if name != "truth") == 80
    second = platform.stream("demo", "--max-events-per-output", "200")
    outputs = {name: o for name, o in second["outputs"].items() if name != "truth"}
    assert {name: (o["sent"], o["admitted"], o["stop_reason"]) for name, o in outputs.items()} == dict.fromkeys(
        ["traffic", "arrival_events", "arrival_entities", "flow_anchors"], (200, 200, "max_events")
    )
    report = platform.report()
    assert_every_equation_holds(report)
    assert report["platform_run_id"] == run
    assert report["stages"]["decided"] == 220
    assert report["stages"]["triggers"] > 0, "a demonstration without a single alert shows nothing"

    again = platform.stream("demo", "--max-events-per-output", "220", "--from", "start")
    for name, output in again["outputs"].items():
        assert output["admitted"] == 0, name
        assert output["duplicate"] == output["sent"] > 0, name
    after = platform.report()
    assert_every_equation_holds(after)
    assert after["stages"] == report["stages"]


def test_a_caller_gets_an_answer(platform: PlatformUnderTest) -> None:
    """POST /v1/transactions is admitted whole and decided; the same again is DUPLICATE with the same decision."""
    platform.new_run()
    transaction = {
        "transaction_id": "pos-4711", "occurred_at": "2026-02-10T09:19:51.000000Z", "amount_minor": 91_250, "currency": "USD",
        "card_token": "tok_90210", "merchant_id": "m_17", "terminal_id": "t_4", "mcc": "5732", "channel": "POS", "country": "US",
    }  # fmt: skip
    status, answer = post(platform, "/v1/transactions", transaction)
    assert status == 202, answer
    status, decision = get(platform, f"/v1/decisions/{answer['decision_id']}?wait_ms=5000")
    assert status == 200, decision
    assert decision["outcome"] in ("ALLOW", "STEP_UP", "REVIEW", "BLOCK")
    assert decision["reasons"], "an amount of 912.50 on an unknown card has a reason"
    status, repeat = post(platform, "/v1/transactions", transaction)
    assert (status, repeat["status"], repeat["decision_id"]) == (200, "DUPLICATE", answer["decision_id"])
    status, _ = post(platform, "/v1/transactions", {**transaction, "amount_minor": 1})
    assert status == 409


def test_trace_shows_the_whole_way(platform: PlatformUnderTest) -> None:
    """One decided flow: trace names its receipt, binding, features, decision and audit object."""
    platform.make_world("demo", 5000)
    run = platform.new_run()
    platform.stream("demo", "--max-events-per-output", "60")
    with psycopg.connect(platform.dsn()) as connection:
        row = connection.execute(
            "select flow_id from df.decisions where platform_run_id = %s and outcome in ('REVIEW', 'BLOCK') limit 1",
            (run,),
        ).fetchone()
    assert row, "no alert in the first 60 transactions of the demo world"
    trace = json.dumps(platform.say("trace", row[0]))
    for stage in ("admitted", "bound", "featured", "decided", "audited", "case"):
        assert stage in trace


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["report", "--run", "platform_19990101T000000Z"], "platform_19990101T000000Z"),
        (["stream", "--world", "nowhere"], "nowhere"),
        (["decisions", "show", "0" * 32], "0" * 8),
        (["trace", "0" * 32], "0" * 8),
        (["status", "no_such_pack"], "no_such_pack"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line(platform: PlatformUnderTest, words: list[str], names: str) -> None:
    """A command on something that is not there says what it did not find, in one line, and is not a success."""
    done = platform.call(*words)
    assert done.returncode in (1, 2, 78)
    assert names in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3, done.stderr
    assert "Traceback" not in done.stderr
