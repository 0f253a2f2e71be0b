"""Thousands of bad requests against a real gate: no 500, no event half admitted, a reason in every answer.

Two sources: hypothesis damages real events and transactions, and batches of them; schemathesis makes requests from the
gate's own OpenAPI document, good and broken ones. Both are seeded. The whole is slow; a slice runs always.
"""

from __future__ import annotations

import copy
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fraud_daemons.domain.envelope import EVENT_TYPES, OUTPUTS, make_event
from fraud_daemons.domain.schemas import ReasonCode
from fraud_daemons.state import principals
from tests.gate import SCENARIO, Answer, Gate, hope_of_everything, mark, open_gate
from tests.integration.whole_line import ask_for_report, reporter
from tests.line import Line

KEY = "key-of-a-careless-caller"
LINES = ("admitted_equals_published", "admitted_equals_receipts", "quarantined_equals_quarantine_objects")
REASONS = {str(code) for code in ReasonCode}
ALWAYS, WHOLE = 120, 5000
"""Requests of each source; together, the damaged ones twice, the whole is fifteen thousand."""
slow = (pytest.mark.slow, pytest.mark.timeout(3600))


@pytest.fixture
def gate(line: Line) -> Iterator[Gate]:
    """A gate with a caller who may send everything."""
    line.run = f"platform_20260102T{zlib.crc32(line.dsn.encode()) % 10**6:06}Z"  # the store is shared by the tests
    with open_gate(line) as opened:
        with line.database.scope() as connection:
            principals.add(connection, "careless", key_sha256=principals.key_hash(KEY), event_types=EVENT_TYPES,
                           at=line.clock.now(), expires_at=None)  # fmt: skip
        opened.key = KEY
        yield opened


class Ledger:
    """What the gate has said so far, to be held against what it keeps."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self.admitted: set[tuple[str, str]] = set()
        self.quarantined: set[str] = set()

    def note(self, status: int, body: Any, *, events: int | None) -> None:
        """One answer: its status is one that is promised, and it says why."""
        assert status in (200, 202, 400, 401, 403, 404, 405, 409, 413, 422, 429, 503), (status, body)
        if status >= 400:
            assert all(isinstance(body[name], str) and body[name] for name in ("error", "detail", "fix"))
            self.said[body["error"]] += 1
            return
        results = body.get("results", body.get("events")) if isinstance(body, dict) else None
        for result in results or ():
            self._note_result(result)
        if events is not None:
            assert results is not None
            assert len(results) == events

    def _note_result(self, result: dict[str, Any]) -> None:
        if result["status"] == "QUARANTINED":
            assert result["reason"] in REASONS
            assert result["detail"]
            self.quarantined.add(result["quarantine_id"])
            self.said[result["reason"]] += 1
            return
        assert result["status"] in ("ADMITTED", "DUPLICATE")
        self.admitted.add((result["receipt"]["topic"], result["event_id"]))
        self.said[result["status"]] += 1


def check_nothing_is_half_done(line: Line, gate: Gate, ledger: Ledger) -> None:
    """What was answered is what is kept, each admission has its record and each record its admission, a transaction has
    four events or none, and the equations hold."""
    half = line.sql(
        "select a.event_id, l.event_id from ig.admissions a full join (select * from bus.log where topic = any(%s)) l"
        ' on (l.topic, l."partition", l."position", l.event_id) = (a.topic, a."partition", a."position", a.event_id)'
        " where (a.event_id is null and l.record_key not like 'mark-%%') or l.event_id is null",
        ([*OUTPUTS, "truth"],),
    )
    assert half == []
    assert line.sql("select count(*) from ig.admissions where publish_state <> 'PUBLISHED'") == [(0,)]
    assert set(line.sql("select topic, event_id from ig.admissions")) == ledger.admitted
    kept = {row[0] for row in line.sql("select quarantine_id from ig.quarantine")}
    unnamed = line.sql("select count(*) from ig.quarantine where reason = 'PAYLOAD_HASH_MISMATCH'")[0][0]
    assert ledger.quarantined <= kept
    assert len(kept) - len(ledger.quarantined) <= unnamed, "a 409 names no quarantine id, everything else does"
    whole = line.sql(
        "select count(*) from (select 1 from bus.log where convert_from(body, 'UTF8')::jsonb -> 'pins' ->> 'world' is null"
        " group by convert_from(body, 'UTF8')::jsonb -> 'source_seq' having count(distinct topic) <> 4"
        " and min(topic) <> 'quarantine') as odd"
    )
    assert whole == [(0,)]
    for _ in range(2):
        line.drain(gate.activities[1:], advance_seconds=2.0)
    report = ask_for_report(line, reporter(line))
    assert report is not None
    lines = {one["name"]: one for one in report["equations"]}
    assert [(name, lines[name]["missing"], lines[name]["surplus"]) for name in LINES] == [(n, 0, 0) for n in LINES]
    assert lines["admitted_equals_published"]["count"] > 0


# --- real events and transactions, damaged

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS
    | st.sampled_from(["4111111111111111", "\x00", "1", "traffic", "9" * 300, "2026-02-30T00:00:00.000000Z", 2**53, -1, 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
PLACE = {"merchant_id": "m", "terminal_id": None}
WHO = {"party_id": None, "account_id": None, "card_token": "tok", "device_id": None, "ip": None}
WHERE = dict.fromkeys(("channel", "pos_entry_mode", "mcc", "merchant_name", "country", "state", "postal_code"))


@st.composite
def event_of(draw: st.DrawFn, run: str) -> dict[str, Any]:
    """A valid event; few numbers, so that the same comes again, and comes again with another content."""
    number, variant = draw(st.integers(1, 12)), draw(st.integers(0, 1))
    event_type = draw(st.sampled_from(EVENT_TYPES))
    if event_type == "progress_mark":
        return mark(draw(st.sampled_from(OUTPUTS)), number, run=run)
    payload: dict[str, Any] = {
        "traffic": {"flow_id": f"f{number}", "amount_minor": 10 + variant, "currency": "USD", "message_type": "0100"},
        "arrival_events": {**PLACE, **WHERE, "arrival_seq": number, "state": "x" * (variant + 1)},
        "arrival_entities": {**PLACE, **WHO, "arrival_seq": number, "ip": "i" * (variant + 1)},
        "flow_anchors": {**PLACE, **WHO, "flow_id": f"f{number}", "arrival_seq": number, "ip": "i" * (variant + 1)},
        "truth": {"flow_id": f"f{number}", "fraud": bool(variant), "fraud_type": None, "source_ref": None,
                  "effective_time": "2026-01-01T00:00:00.000000Z", "correction": 0},
    }[event_type]  # fmt: skip
    return make_event(
        event_type=event_type, payload=payload, occurred_at="2026-01-01T00:00:00.000000Z", source_seq=number,
        platform_run_id=run, scenario_run_id=SCENARIO, world="test", producer="careless",
    )  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, base: st.SearchStrategy[dict[str, Any]]) -> Any:
    """A value with up to three places changed, taken away or added; sometimes something else altogether."""
    value = copy.deepcopy(draw(base))
    if draw(st.integers(0, 19)) == 0:
        return draw(VALUES)
    for _ in range(draw(st.integers(0, 3))):
        inside = value
        if isinstance(value.get("payload"), dict) and draw(st.booleans()):
            inside = value[draw(st.sampled_from([n for n in ("payload", "pins") if isinstance(value.get(n), dict)]))]
        name = draw(st.sampled_from([*sorted(inside), "card_number"]) | TEXTS)
        if draw(st.integers(0, 3)):
            inside[name] = draw(VALUES)
        else:
            inside.pop(name, None)
    return value


def as_json(value: Any) -> bytes:
    """JSON as orjson writes it, with the numbers it does not write left out."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(str(value))


def post_damaged_events(gate: Gate, ledger: Ledger, data: st.DataObject, run: str) -> None:
    """One request: an array, lines, one event, or bytes that were cut or changed on their way."""
    batch = data.draw(st.lists(damaged(event_of(run)), min_size=1, max_size=12))
    parts = [as_json(event) for event in batch]
    form = data.draw(st.sampled_from(["array", "array", "lines", "lines", "one", "cut", "noise"]))
    events: int | None = len(parts)
    match form:
        case "array":
            body = b"[" + b",".join(parts) + b"]"
        case "lines":
            broken = data.draw(st.lists(st.binary(min_size=1, max_size=40).filter(_is_a_line), max_size=2))
            body, events = b"\n".join([*parts, *broken]), None if broken else events
        case "one":
            body, events = parts[0], None if parts[0].startswith(b"[") else 1
        case "cut":
            body, events = (b"[" + b",".join(parts) + b"]")[: data.draw(st.integers(0, 200))], None
        case _:
            body, events = data.draw(st.binary(max_size=200)), None
    kind = (
        "application/x-ndjson"
        if form == "lines"
        else data.draw(st.sampled_from(["application/json", "text/plain", "x"]))
    )
    answer = gate.request("POST", "/v1/events", body, content_type=kind)
    ledger.note(answer.status, answer.body, events=events if answer.status == 200 else None)


def _is_a_line(raw: bytes) -> bool:
    return b"\n" not in raw and bool(raw.strip())


@st.composite
def transaction(draw: st.DrawFn) -> dict[str, Any]:
    number, variant = draw(st.integers(1, 8)), draw(st.integers(0, 1))
    return {
        "transaction_id": f"t{number}", "occurred_at": "2026-02-10T09:19:51Z", "amount_minor": 10 + variant, "currency": "USD",
        "card_token": "tok", "terminal_id": "t", "merchant_id": "m", "mcc": "5411",
    }  # fmt: skip


def post_damaged_transaction(gate: Gate, ledger: Ledger, data: st.DataObject, _run: str) -> None:
    answer = gate.request("POST", "/v1/transactions", as_json(data.draw(damaged(transaction()))))
    ledger.note(answer.status, answer.body, events=4 if answer.status in (200, 202) else None)


def made(send: Callable[..., None], gate: Gate, ledger: Ledger, run: str, *, requests: int) -> None:
    @settings(
        max_examples=requests, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(data=st.data())
    def one(data: st.DataObject) -> None:
        send(gate, ledger, data, run)

    one()


@pytest.mark.parametrize("requests", [ALWAYS, pytest.param(WHOLE, marks=slow)])
@pytest.mark.parametrize("in_hope", [False, True], ids=["with_care", "in_hope"])
def test_damaged_events_and_transactions_are_answered_and_never_half_admitted(
    one_partition: Line, gate: Gate, monkeypatch: pytest.MonkeyPatch, in_hope: bool, requests: int
) -> None:
    """Four of five requests are batches of damaged events, the fifth a damaged transaction. In hope the gate writes every
    batch that looks good before it has judged it."""
    line, ledger = one_partition, Ledger()
    if in_hope:
        hope_of_everything(monkeypatch)
    made(post_damaged_events, gate, ledger, line.run, requests=requests * 4 // 5)
    made(post_damaged_transaction, gate, ledger, line.run, requests=requests // 5)
    check_nothing_is_half_done(line, gate, ledger)
    assert {
        "ADMITTED",
        "DUPLICATE",
        "PAYLOAD_HASH_MISMATCH",
        "ENVELOPE_INVALID",
        "SCHEMA_FAIL",
        "malformed_json",
    } <= ledger.said.keys()
    assert sum(ledger.said.values()) >= requests


# --- requests made from the gate's own document

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = (
    ("/v1/events", "POST", 5),
    ("/v1/transactions", "POST", 5),
    ("/v1/decisions/{decision_id}", "GET", 2),
    ("/schemas/{name}/{version}", "GET", 1),
    ("/readyz", "GET", 0),
)
"""Path, method, and its share of the requests; 0 = once."""


@pytest.mark.parametrize("requests", [ALWAYS, pytest.param(WHOLE, marks=slow)])
def test_requests_made_from_the_document_are_answered_as_it_says(line: Line, gate: Gate, requests: int) -> None:
    """Good and broken ones in turn: every status, content type and body is one that the document promises."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{gate.port}/openapi.json")
    ledger = Ledger()
    shares = sum(share for *_, share in OPERATIONS)
    for path, method, share in OPERATIONS:
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if share else (GenerationMode.POSITIVE,)
        for mode in modes:
            examples = max(1, requests * share // shares // 2)
            ask(schema[path][method].as_strategy(generation_mode=mode), gate, ledger, examples=examples)
    gate.post([mark("traffic", 1, run=line.run)])  # something is admitted even if no made request was that lucky
    ledger.note(200, gate.post([mark("truth", 1, run=line.run), event(line.run)]).body, events=2)
    ledger.note(200, gate.post([mark("traffic", 1, run=line.run)]).body, events=1)
    check_nothing_is_half_done(line, gate, ledger)
    assert len(ledger.said) >= 6


def event(run: str) -> dict[str, Any]:
    payload = {"flow_id": "f1", "amount_minor": 1, "currency": "USD", "message_type": "0100"}
    return make_event(
        event_type="traffic", payload=payload, occurred_at="2026-01-01T00:00:00.000000Z", source_seq=1, platform_run_id=run,
        scenario_run_id=SCENARIO, world="test", producer="careless",
    )  # fmt: skip


def ask(strategy: st.SearchStrategy[Any], gate: Gate, ledger: Ledger, *, examples: int) -> None:
    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=strategy)
    def one(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{gate.port}", headers={"X-API-Key": KEY}, timeout=30)
        case.validate_response(response, checks=CHECKS)
        answer = Answer(response.status_code, orjson.loads(response.content), {})
        if "/v1/" in case.path:
            ledger.note(answer.status, answer.body, events=None)

    one()
