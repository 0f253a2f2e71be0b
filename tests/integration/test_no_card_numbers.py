"""No card number is kept: not in the database, not in evidence, not in a log, however it came in."""

from __future__ import annotations

import csv
import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import structlog
from psycopg import sql

from fraud_daemons.domain.card_numbers import looks_like_pan
from fraud_daemons.domain.envelope import make_event
from fraud_daemons.domain.quarantine_redrives import request
from fraud_daemons.observability.logs import open_worker_log
from tests.gate import CLIENT_KEY, SCENARIO, Gate, open_gate, traffic
from tests.line import ROOT, RUN, Line

PCARD = ROOT.parent / "shared" / "data" / "pcard_transactions.csv.gz"
PANS = ("4111111111111111", "378282246310005", "6011000990139424")
TRANSACTION: dict[str, Any] = {
    "transaction_id": "tx-1", "occurred_at": "2026-02-10T09:19:51Z", "amount_minor": 1, "currency": "USD",
    "merchant_id": "m-1", "terminal_id": "t-1",
}  # fmt: skip


@pytest.fixture
def log_file(short_dir: Path) -> Iterator[Path]:
    """What the gate logs, in a file as a worker has it."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    path = short_dir / "logs" / "gate.log"
    open_worker_log(path, level="debug", file_bytes_max=10**7, files_max=2, worker="ingestion_gate", pack="test")
    yield path
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def anchor(number: int, *, run: str, **payload: Any) -> dict[str, Any]:
    """A flow's anchor with what a caller put into it."""
    fields: dict[str, Any] = dict.fromkeys(
        ("merchant_id", "terminal_id", "party_id", "account_id", "card_token", "device_id", "ip")
    )
    return make_event(
        event_type="flow_anchors", payload=fields | {"flow_id": f"f{number}", "arrival_seq": 1} | payload,
        occurred_at="2026-01-01T00:00:00.000000Z", source_seq=number, platform_run_id=run, scenario_run_id=SCENARIO,
        world="test", producer="world_stream_producer",
    )  # fmt: skip


def rows_with(line: Line, text: str) -> list[str]:
    """Tables of the whole database with a row that holds `text`, in whatever column, bytes included."""
    found = []
    tables = line.sql("select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE'"
                      " and table_schema not in ('pg_catalog', 'information_schema')")  # fmt: skip
    assert len(tables) > 30
    with psycopg.connect(line.dsn) as connection:
        for schema, name in tables:
            table = sql.Identifier(schema, name)
            query = sql.SQL("select count(*) from {} as t where t::text like %s or t::text like %s").format(table)
            row = connection.execute(query, (f"%{text}%", f"%{text.encode().hex()}%")).fetchone()
            if row and row[0]:
                found.append(f"{schema}.{name}")
    return found


def objects_with(line: Line, run: str, text: str) -> list[str]:
    """Evidence objects of a run, and those about no run, that hold `text`."""
    store = line.make_store()
    keys = [facts.key for prefix in (f"{run}/", "unpinned/") for facts in store.list(prefix)]
    assert keys
    return [key for key in keys if text.encode() in store.get(key)]


def send_it_everywhere(gate: Gate, run: str, pan: str) -> list[str]:
    """The number in every place where a sloppy caller may put it; the reasons it was answered with."""
    spaced = " ".join(pan[at : at + 4] for at in range(0, len(pan), 4))
    batch = [
        anchor(1, run=run, card_token=pan),
        anchor(2, run=run, card_token=spaced),
        anchor(3, run=run, account_id=f"PAN:{pan}"),
        anchor(4, run=run, card_token=int(pan)),
        anchor(5, run=run, card_number=pan, cvv="secret-987"),
        anchor(6, run=run, card={"number": pan}),
        {**traffic(7, run=run, pan=pan), "pins": {}},
        {"card_token": pan},
        {"event_id": pan, "event_type": pan},
        {f"card {pan}": 1},
        pan,
    ]
    answers = gate.post(batch).results
    lines = [b'{"card_token": "%s"' % pan.encode(), b'{"card_token": "%s", "card_token": "tok"}' % pan.encode()]
    body = b"\n".join([*lines, orjson.dumps(anchor(8, run=run, card_token=pan))])
    answers += gate.request("POST", "/v1/events", body, content_type="application/x-ndjson").results
    for answer in answers:
        assert pan not in orjson.dumps(answer).decode()
    for field in ({"card_token": pan}, {"account_id": spaced}, {"card_number": pan}, {f"pan{pan}": 1}, {pan: pan}):
        refused = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION | field), key=CLIENT_KEY)
        assert refused.status == 422
        assert pan not in orjson.dumps(refused.body).decode()
    return [answer.get("reason", answer["status"]) for answer in answers]


def test_a_card_number_is_refused_by_name_and_nowhere_kept(line: Line, log_file: Path) -> None:
    """Sent in every card field, as text, number, name, nested, twice, and in a broken line: refused, by reason where it
    stands in a field of ours, and then neither database nor evidence nor log holds its digits."""
    run = line.begin_run("platform_20260101T000041Z")
    with open_gate(line) as gate:
        reasons = [send_it_everywhere(gate, run, pan) for pan in PANS]
        assert [per_pan[:3] for per_pan in reasons] == [["PAN_IN_CARD_FIELD"] * 3] * 3
        assert {reason for per_pan in reasons for reason in per_pan} == {
            "PAN_IN_CARD_FIELD", "SCHEMA_FAIL", "PINS_MISSING", "ENVELOPE_INVALID", "EVENT_TYPE_UNKNOWN",
        }  # fmt: skip
        gate.post([anchor(9, run=run, card_token="tok-1")])
        for _ in range(2):
            line.drain(gate.activities[1:], advance_seconds=2.0)
    assert line.sql("select count(*) from ig.admissions") == [(1,)]
    assert "request_answered" in log_file.read_text()
    for pan in PANS:
        assert rows_with(line, pan) == []
        assert objects_with(line, run, pan) == []
        assert pan not in log_file.read_text()
    assert rows_with(line, "tok-1") == ["bus.log"]
    assert objects_with(line, run, "secret-987") == []


def test_the_grep_finds_what_is_there(line: Line) -> None:
    """The same number as a merchant's id is admitted and found: a search that finds nothing anywhere would prove nothing."""
    run = line.begin_run("platform_20260101T000042Z")
    with open_gate(line) as gate:
        assert gate.post([anchor(1, run=run, merchant_id=PANS[0])]).statuses == ["ADMITTED"]
        refused = gate.post([anchor(2, run=run, merchant_id=PANS[0], colour="red")]).results
        assert refused[0]["reason"] == "SCHEMA_FAIL"
        for _ in range(2):
            line.drain(gate.activities[1:], advance_seconds=2.0)
    assert rows_with(line, PANS[0]) == ["bus.log", "ig.quarantine"]
    assert objects_with(line, run, PANS[0])


def test_a_redrive_does_not_take_the_gap_for_a_token(line: Line) -> None:
    """What stands where the number was is no token: sent through again, the event is refused as SCHEMA_FAIL."""
    with open_gate(line) as gate:
        refused = gate.post([anchor(1, run=RUN, card_token=PANS[0])]).results[0]
        body = request(platform_run_id=RUN, quarantine_id=refused["quarantine_id"], asked_by="ada", reason="mended",
                       requested_at="2026-01-01T00:00:00.000000Z")  # fmt: skip
        line.append("control", [body], event_id=lambda asked: asked["request_id"])
        line.drain(gate.activities[1:], advance_seconds=2.0)
    assert line.sql("select outcome, refusal from ig.redrives") == [("REFUSED", "SCHEMA_FAIL")]
    assert line.records("flow_anchors") == []


@pytest.mark.skipif(not PCARD.exists(), reason="the purchase-card file is not beside the project (../shared/data)")
def test_thousands_of_real_merchants_pass_whose_ids_pass_luhn(line: Line) -> None:
    """The purchase-card file's merchant ids of 13 digits that pass the check are no card numbers: every such row is admitted."""
    run = line.begin_run("platform_20260101T000043Z")
    with gzip.open(PCARD, "rt", encoding="utf-8", errors="replace", newline="") as file:
        merchants = [row["merchnum"] for row in csv.DictReader(file) if looks_like_pan(row["merchnum"])]
    assert len(merchants) > 2000
    with open_gate(line) as gate:
        for start in range(0, len(merchants), 1000):
            part = merchants[start : start + 1000]
            batch = [
                anchor(n, run=run, merchant_id=merchant, card_token=f"tok-{n}")
                for n, merchant in enumerate(part, start)
            ]
            assert set(gate.post(batch).statuses) == {"ADMITTED"}
