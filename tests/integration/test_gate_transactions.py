"""Whole transactions of a live caller over real HTTP: what is admitted, what is refused, and the decision that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core import context_store_flow_binding, online_feature_plane
from tests.gate import CLIENT_KEY, Gate, open_gate
from tests.integration.whole_line import settle
from tests.line import RUN, Line

TRANSACTION: dict[str, Any] = {
    "transaction_id": "tx-1",
    "occurred_at": "2026-02-10T09:19:51+00:00",
    "amount_minor": 1999,
    "currency": "USD",
    "card_token": "card-a",
    "merchant_id": "m-1",
    "terminal_id": "t-1",
    "mcc": "5411",
    "channel": "pos",
    "pos_entry_mode": "051",
    "country": "US",
    "party_id": "party-a",
}


@pytest.fixture
def gate(line: Line) -> Iterator[Gate]:
    with open_gate(line) as opened:
        yield opened


def test_a_whole_transaction_is_fanned_out_into_four_events(line: Line, gate: Gate) -> None:
    """202 with the decision's id; the same again 200 and DUPLICATE; other content 409, kept apart, nothing admitted."""
    first = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION), key=CLIENT_KEY)
    assert (first.status, first.body["status"], first.body["platform_run_id"]) == (202, "ADMITTED", RUN)
    assert [e["status"] for e in first.body["events"]] == ["ADMITTED"] * 4
    again = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION), key=CLIENT_KEY)
    assert (again.status, again.body["status"]) == (200, "DUPLICATE")
    assert again.body["decision_id"] == first.body["decision_id"]
    for changed in ({"amount_minor": 2000}, {"terminal_id": "t-2"}, {"mcc": "5999"}):
        other = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION | changed), key=CLIENT_KEY)
        assert (other.status, other.body["error"]) == (409, "PAYLOAD_HASH_MISMATCH")
    counts = {t: len(line.records(t)) for t in ("traffic", "arrival_events", "arrival_entities", "flow_anchors")}
    assert set(counts.values()) == {1}
    assert line.sql("select count(*) from ig.quarantine where reason = 'PAYLOAD_HASH_MISMATCH'") == [(3,)]
    [anchor], [arrival] = line.bodies("flow_anchors"), line.bodies("arrival_events")
    assert anchor["payload"]["arrival_seq"] == arrival["payload"]["arrival_seq"] >= 2**52
    assert anchor["pins"]["world"] is None
    assert anchor["occurred_at"] == "2026-02-10T09:19:51.000000Z"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount_minor": "12"}, "amount_minor"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"occurred_at": "2026-02-10T09:19:51"}, "occurred_at"),
        ({"flow_id": "both"}, "transaction"),
        ({"colour": "red"}, "transaction"),
        ({"currency": "EUR"}, "currency"),
        ({"message_type": "0400"}, "message_type"),
        ({"card_token": "4111111111111111"}, "card_token"),
    ],
)
def test_a_transaction_that_breaks_its_schema_is_422(
    line: Line, gate: Gate, change: dict[str, Any], field: str
) -> None:
    """The answer names the field and never the value; nothing is admitted or kept."""
    answer = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION | change), key=CLIENT_KEY)
    assert answer.status == 422
    assert field in answer.body["detail"]
    assert "4111" not in answer.body["detail"]
    assert line.sql("select count(*) from ig.quarantine") == [(0,)]
    assert line.records("traffic") == []


def test_without_a_run_a_transaction_is_409(line: Line, gate: Gate) -> None:
    """The answer says how to begin one."""
    line.sql("delete from control.runs")
    answer = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION), key=CLIENT_KEY)
    assert answer.status == 409
    assert "platform run new" in answer.body["fix"]


def test_a_decision_is_unknown_until_it_is_durable_and_then_there_at_once(line: Line, gate: Gate) -> None:
    """404 {"error": "unknown"} when the wait is over; decided, it is the very bytes that were published. A bad wait is 400.
    Here time moves only when it is told to; a caller who waits is tested on a running platform."""
    taken = gate.request("POST", "/v1/transactions", orjson.dumps(TRANSACTION), key=CLIENT_KEY)
    path = f"/v1/decisions/{taken.body['decision_id']}"
    unknown = gate.request("GET", f"{path}?wait_ms=50")
    assert (unknown.status, unknown.body["error"]) == (404, "unknown")
    assert gate.request("GET", f"{path}?wait_ms=soon").status == 400
    for worker in (context_store_flow_binding.WORKER, online_feature_plane.WORKER, decision_fabric.WORKER):
        settle(line, worker)
    [decision] = line.bodies("decisions")
    found = gate.request("GET", path)
    assert (found.status, found.body) == (200, decision)
    assert (decision["flow_id"], decision["feature_status"]) == ("tx-1", "PRESENT")
