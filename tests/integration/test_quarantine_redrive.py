"""platform quarantine redrive: the original bytes through the gate again, linked to where they had been refused."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.domain import admission
from fraud_daemons.domain.schemas import ReasonCode, Rejection
from tests.case_labels_records import truth
from tests.gate import CLIENT_KEY, Gate, open_gate, traffic
from tests.integration import test_cli_receipts_quarantine
from tests.integration.test_cli_receipts_quarantine import Platform
from tests.integration.whole_line import TRANSACTIONS, ask_for_report, finish, reporter, stream_the_world
from tests.line import Line, at_work

platform = test_cli_receipts_quarantine.platform


def working(gate: Gate) -> AbstractContextManager[None]:
    """The gate carries out what people ask, in a thread of its own."""
    return at_work(lambda: [gate.activities[-2]])


def said(out: str) -> dict[str, Any]:
    """The command's object; the gate in this process logs beside it."""
    found: dict[str, Any] = json.loads(next(text for text in out.splitlines() if text.startswith("{")))
    return found


def redrive(platform: Platform, *ids: str, reason: str = "mended") -> tuple[int, list[dict[str, Any]]]:
    code, out, err = platform("quarantine", "redrive", *ids, "--reason", reason, "--by", "ada", "--json")
    assert err == ""
    return code, list(said(out)["redriven"])


def test_a_run_whose_refused_events_were_redriven_balances(
    line: Line, short_dir: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong rule refuses three transactions of a world. The rule mended, they go through: admitted once, bound, decided,
    archived; every equation of the report holds, and what was sent is admitted plus what is still refused."""
    rule = admission.validate_event

    def wrong(event: Any, **rules: Any) -> Rejection | None:
        if event.get("event_type") == "traffic" and event.get("source_seq") in (3, 4, 5):
            return Rejection(ReasonCode.SCHEMA_FAIL, "a wrong rule")
        return rule(event, **rules)

    monkeypatch.setattr(admission, "validate_event", wrong)
    stream_the_world(line, short_dir)
    refused = [row["quarantine_id"] for row in said(platform("quarantine", "list", "--reason", "SCHEMA_FAIL", "--json")[1])["quarantined"]]  # fmt: skip
    assert len(refused) == 3
    before = line.sql("select quarantine_id, detail, seen from ig.quarantine order by 1")
    with open_gate(line) as gate, working(gate):
        code, rows = redrive(platform, *refused, reason="not yet")
        assert (code, {(row["outcome"], row["refusal"], row["detail"]) for row in rows}) == (
            1, {("REFUSED", "SCHEMA_FAIL", "a wrong rule")},
        )  # fmt: skip
        monkeypatch.setattr(admission, "validate_event", rule)
        code, rows = redrive(platform, *refused)
        assert (code, {row["outcome"] for row in rows}) == (0, {"ADMITTED"})
        code, again = redrive(platform, *refused)
        assert (code, {row["outcome"] for row in again}) == (0, {"DUPLICATE"})
        assert [row["receipt"] for row in again] == [row["receipt"] for row in rows]
        for _ in range(2):
            line.drain(gate.activities[1:-2], advance_seconds=2.0)
    assert line.sql("select quarantine_id, detail, seen from ig.quarantine order by 1") == before
    finish(line)
    report = ask_for_report(line, reporter(line))
    assert report is not None
    assert (report["verdict"], report["stages"]["decided"]) == ("PASS", TRANSACTIONS)
    assert report["outputs"]["traffic"]["admitted"] == TRANSACTIONS
    assert report["outputs"]["traffic"]["quarantined"] == 3, "other content under known ids stays refused"
    shown = said(platform("quarantine", "show", refused[0], "--json")[1])
    ended = {each["outcome"]: each for each in shown["redrives"]}
    assert set(ended) == {"REFUSED", "ADMITTED", "DUPLICATE"}
    receipt = rows[0]["receipt"]
    assert {name: ended["ADMITTED"][name] for name in receipt} == receipt
    evidence = said(platform("receipts", "show", receipt["event_id"], "--json")[1])["receipts"][0]["evidence"]
    assert evidence["verdict"] == "GOOD"
    listed = said(platform("quarantine", "list", "--redriven", "--json")[1])["quarantined"]
    assert sorted(row["quarantine_id"] for row in listed) == sorted(refused)
    assert len(said(platform("quarantine", "list", "--open", "--json")[1])["quarantined"]) == 3
    governed = line.sql("select done_by, detail ->> 'reason', count(*) from control.governance where kind = 'QUARANTINE_REDRIVEN' group by 1, 2")  # fmt: skip
    assert sorted(governed) == [("ada", "mended", 6), ("ada", "not yet", 3)]


def test_a_run_begun_later_and_a_scope_given_later_admit_what_was_refused(line: Line, platform: Platform) -> None:
    """An event of a run that did not exist, and truth by a key that could not send it: each admitted after the mend, under
    its own run and its sender's name; the bytes on the bus are those that were sent."""
    later = "platform_20991231T000000Z"
    with open_gate(line) as gate:
        unpinned = gate.post([traffic(1, run=later)]).results[0]["quarantine_id"]
        gate.key = CLIENT_KEY
        scoped = gate.post([truth(2, fraud=True, run=line.run)]).results[0]["quarantine_id"]
        with working(gate):
            code, rows = redrive(platform, unpinned, scoped)
            assert (code, [row["refusal"] for row in rows]) == (1, ["RUN_UNKNOWN", "EVENT_TYPE_NOT_IN_SCOPE"])
            line.begin_run(later)
            line.sql("update ig.principals set event_types = event_types || array['truth'] where name = 'client'")
            code, rows = redrive(platform, unpinned, scoped)
    assert (code, [row["outcome"] for row in rows]) == (0, ["ADMITTED", "ADMITTED"])
    assert [row["receipt"]["admitted_run"] for row in rows] == [later, line.run]
    assert line.sql("select producer from ig.admissions order by event_type") == [
        ("world_stream_producer",),
        ("client",),
    ]
    assert [(r.platform_run_id, json.loads(r.body)) for r in line.records("traffic")] == [
        (later, traffic(1, run=later))
    ]


def test_what_cannot_be_admitted_is_named(line: Line, platform: Platform) -> None:
    """Other content under a known id, a sender without a key: 1 with the reason. Unknown ids and words: 1 or 2, a line each,
    and nothing is redriven."""
    with open_gate(line) as gate:
        gate.post([traffic(1, run=line.run)])
        other = gate.post([traffic(1, run=line.run, amount_minor=99)]).results[0]["quarantine_id"]
        with working(gate):
            code, rows = redrive(platform, other)
            assert (code, rows[0]["refusal"]) == (1, "PAYLOAD_HASH_MISMATCH")
            line.sql("update ig.principals set active = false where name = 'world_stream_producer'")
            code, rows = redrive(platform, other)
            assert (code, rows[0]["refusal"]) == (1, "SENDER_WITHOUT_KEY")
            before = line.sql("select count(*) from ig.redrives")
            cases: list[tuple[tuple[str, ...], int, str]] = [
                (("redrive", other, "nothing", "--reason", "x"), 1, "nothing refused has the id 'nothing'"),
                (("redrive", other), 2, "--reason"),
                (("redrive", other, "--reason", " "), 2, "--reason"),
                (("redrive", "--reason", "x"), 2, "QUARANTINE_ID"),
                (("list", "--after", "nothing"), 1, "nothing refused has the id"),
                (("list", "--reason", "BAD_LUCK"), 2, "--reason"),
                (("list", "--event-type", "tea"), 2, "--event-type"),
                (("list", "--limit", "-1"), 2, "--limit"),
                (("list", "--run", "platform_19990101T000000Z"), 1, "no run"),
                (("show", "nothing"), 1, "nothing refused has the id"),
            ]
            for words, code, message in cases:
                found, _, err = platform("quarantine", *words)
                assert (found, err.count("\n")) == (code, 1), (words, err)
                assert message in err
    assert line.sql("select count(*) from ig.redrives") == before
    assert len(line.records("traffic")) == 1


def test_a_gate_that_is_away_is_said_and_the_request_is_carried_out_once(line: Line, platform: Platform) -> None:
    """Nobody answers: exit 4. The gate comes back, reads its requests twice, and admits the event once."""
    later = "platform_20991231T000000Z"
    with open_gate(line) as gate:
        refused = gate.post([traffic(1, run=later)]).results[0]["quarantine_id"]
    line.begin_run(later)
    code, _, err = platform("quarantine", "redrive", refused, "--reason", "begun", "--timeout", "1")
    assert code == 4
    assert "is ingestion_gate running?" in err
    for _ in range(2):
        with open_gate(line) as gate:
            line.drain(gate.activities[-2:-1])
        line.sql("delete from checkpoints.positions where worker = 'ingestion_gate.redrives'")
    assert line.sql("select outcome from ig.redrives") == [("ADMITTED",)]
    assert len(line.records("traffic")) == 1
