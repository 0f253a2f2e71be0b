"""platform receipts and quarantine: what the gate took, held against its evidence, and what it refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.errors import ExitCode
from tests.gate import events_of, open_gate, traffic
from tests.line import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from fraud_daemons.supervision.substrate.objectstore import ObjectStore
    from tests.line import Line

Platform = Callable[..., tuple[int, str, str]]


@pytest.fixture
def platform(
    line: Line,
    object_store: ObjectStore,
    short_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Platform:
    """The command, on the line's database and the test's object store: (exit code, stdout, stderr)."""
    digits = f"{zlib.crc32(line.dsn.encode()):014d}"
    line.run = f"platform_{digits[:8]}T{digits[8:]}Z"  # the store is shared by the tests
    for name, value in {
        "PLATFORM_DSN": line.dsn,
        "PLATFORM_PROFILE_RUN_DIR": str(short_dir),
        "PLATFORM_OBJECTSTORE_ENDPOINT": object_store.endpoint,
        "PLATFORM_OBJECTSTORE_BUCKET": object_store.bucket,
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
    }.items():
        monkeypatch.setenv(name, value)

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["--root", str(ROOT), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def admitted(line: Line, *, sealed: bool) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """(an event's id, its receipt, the answers to two bad events) of a gate that took three events."""
    with open_gate(line) as gate:
        events = events_of(range(3), run=line.run)
        good = gate.post(events).results
        bad = [traffic(9, run=line.run, currency="EUR"), {**traffic(8, run=line.run), "schema_version": "7"}]
        refused = gate.post(bad).results
        if sealed:
            for _ in range(2):
                line.drain(gate.activities[1:], advance_seconds=2.0)
    return events[1]["event_id"], good[1]["receipt"], refused


def test_a_receipt_is_held_against_its_object(line: Line, platform: Platform) -> None:
    """The answer has the place and hash that the gate gave, and the evidence object agrees, byte for byte."""
    event_id, receipt, _ = admitted(line, sealed=True)
    code, out, err = platform("receipts", "show", event_id, "--json")
    assert (code, err) == (0, "")
    (shown,) = json.loads(out.splitlines()[-1])["receipts"]
    assert {name: shown[name] for name in receipt} == receipt
    assert (shown["evidence"]["verdict"], shown["event_type"]) == ("GOOD", "traffic")
    assert shown["evidence"]["object_key"].startswith(f"{line.run}/ig/receipts/traffic-")


def test_a_receipt_that_is_not_sealed_yet_says_so(line: Line, platform: Platform) -> None:
    """Before the sealer has come by there is a row and no object, and that is no fault."""
    event_id, _, _ = admitted(line, sealed=False)
    code, out, _ = platform("receipts", "show", event_id, "--json")
    assert (code, json.loads(out.splitlines()[-1])["receipts"][0]["evidence"]["verdict"]) == (0, "WAITING")


def test_a_receipt_that_differs_from_its_object_is_named(line: Line, platform: Platform) -> None:
    """A row changed behind the evidence's back is seen: exit code 1."""
    event_id, _, _ = admitted(line, sealed=True)
    line.sql("update ig.admissions set payload_hash = 'other' where event_id = %s", (event_id,))
    code, out, _ = platform("receipts", "show", event_id, "--json")
    assert code == ExitCode.NO
    assert json.loads(out.splitlines()[-1])["receipts"][0]["evidence"]["verdict"] == "DIFFERS"


def test_what_was_refused_is_listed_by_reason_and_shown_without_its_bytes(line: Line, platform: Platform) -> None:
    """A list has the reasons; a page ends where it says; the original bytes come only when they are asked for."""
    _, _, refused = admitted(line, sealed=False)
    code, out, _ = platform("quarantine", "list", "--json")
    listed = json.loads(out.splitlines()[-1])["quarantined"]
    assert code == 0
    assert {row["quarantine_id"]: row["reason"] for row in listed} == {
        answer["quarantine_id"]: answer["reason"] for answer in refused
    }
    code, out, _ = platform("quarantine", "list", "--reason", "CURRENCY_NOT_SUPPORTED", "--json")
    (one,) = json.loads(out.splitlines()[-1])["quarantined"]
    assert one["event_type"] == "traffic"
    code, out, _ = platform("quarantine", "list", "--limit", "1", "--json")
    page = json.loads(out.splitlines()[-1])
    code, out, _ = platform("quarantine", "list", "--after", page["next"], "--json")
    assert len(json.loads(out.splitlines()[-1])["quarantined"]) == 1
    code, out, _ = platform("quarantine", "show", one["quarantine_id"])
    assert "EUR" not in out
    code, out, _ = platform("quarantine", "show", one["quarantine_id"], "--payload", "--json")
    assert json.loads(json.loads(out.splitlines()[-1])["payload"])["payload"]["currency"] == "EUR"


def test_whoever_reads_evidence_is_written_down_and_a_list_of_reasons_is_no_reading(
    line: Line, platform: Platform
) -> None:
    """A receipt, a refusal with its bytes, the archive: each reading is an event of the run that it was about, by name."""
    event_id, _, refused = admitted(line, sealed=True)
    quarantine_id = refused[0]["quarantine_id"]
    platform("quarantine", "list")
    platform("receipts", "show", event_id)
    platform("quarantine", "show", quarantine_id)
    platform("archive", "verify")
    read = line.sql(
        "select subject, platform_run_id, done_by <> '' from control.governance where kind = 'EVIDENCE_READ'"
        " order by happened_at"
    )
    assert read == [
        (f"receipt {event_id}", line.run, True),
        (f"quarantine {quarantine_id}", line.run, True),
        ("archive", line.run, True),
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("receipts", "show", "nothing"), ExitCode.NO, "platform quarantine list"),
        (("quarantine", "show", "nothing"), ExitCode.NO, "platform quarantine list"),
        (("quarantine", "list", "--reason", "UGLY"), ExitCode.USAGE, "UGLY"),
        (("quarantine", "list", "--run", "nothing"), ExitCode.NO, "platform run list"),
    ],
)
def test_unknown_ids_and_bad_filters(
    line: Line, platform: Platform, words: tuple[str, ...], code: int, said: str
) -> None:
    """One line: what is unknown and where to look."""
    line.begin_run()
    found, _, err = platform(*words)
    assert (found, err.count("\n")) == (code, 1)
    assert said in err
