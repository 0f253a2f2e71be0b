"""Batches that the gate writes in hope that all of it is valid and new, and what becomes of a hope that is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.state import admissions
from fraud_daemons.workers.control_ingress._gate_intake import HOPE_AFTER_BATCHES, HOPE_EVENTS_MIN
from tests.gate import CLIENT_KEY, Answer, Gate, hope_of_everything, mark, open_gate, traffic
from tests.line import RUN, Line


@pytest.fixture
def gate(one_partition: Line) -> Iterator[Gate]:
    with open_gate(one_partition) as opened:
        yield opened


@pytest.fixture
def hopeful(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    hope_of_everything(monkeypatch)
    return gate


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events were looked up, by each look."""
    found: list[int] = []
    look = admissions.receipts
    monkeypatch.setattr(admissions, "receipts", lambda c, ids: found.append(len(ids)) or look(c, ids))
    return found


def admitted_of(line: Line) -> list[tuple[Any, ...]]:
    """Each admission with its record's place and body, None where there is none."""
    return line.sql(
        'select a.event_id, a.event_type, a.payload_hash, a.producer, a.platform_run_id, a.topic, a."position", l.body'
        ' from ig.admissions a left join bus.log l on (l.topic, l."partition", l."position", l.event_id)'
        ' = (a.topic, a."partition", a."position", a.event_id) order by a.topic, a."position"'
    )


def test_a_sender_of_new_events_is_not_looked_up_until_he_repeats(
    one_partition: Line, gate: Gate, looked: list[int]
) -> None:
    """After enough large batches without a repeat none is looked up; one that repeats all the same is answered as ever."""
    line = one_partition
    run = line.begin_run("platform_20260101T101010Z")

    def batch(number: int) -> list[dict[str, Any]]:
        return [traffic(n, run=run) for n in range(number * HOPE_EVENTS_MIN, (number + 1) * HOPE_EVENTS_MIN)]

    first = [gate.post(batch(number)).results for number in range(HOPE_AFTER_BATCHES + 2)]
    assert {result["status"] for results in first for result in results} == {"ADMITTED"}
    assert len(looked) == HOPE_AFTER_BATCHES

    half = [*batch(1)[:50], *batch(50)[50:]]
    mixed = gate.post(half).results
    assert [result["status"] for result in mixed] == ["DUPLICATE"] * 50 + ["ADMITTED"] * 50
    assert [result["receipt"] for result in mixed[:50]] == [result["receipt"] for result in first[1][:50]]
    assert len(looked) == HOPE_AFTER_BATCHES + 1, "overtaken once, then looked up"
    assert gate.post(batch(2)).statuses == ["DUPLICATE"] * HOPE_EVENTS_MIN
    assert len(looked) == HOPE_AFTER_BATCHES + 2, "who repeats is looked up at once"

    admitted = (HOPE_AFTER_BATCHES + 2) * HOPE_EVENTS_MIN + 50
    assert line.sql("select count(*) from ig.admissions where platform_run_id = %s", (run,)) == [(admitted,)]
    assert len([r for r in line.records("traffic") if r.platform_run_id == run]) == admitted
    assert line.sql("select sum(repeats)::int from ig.repeats where platform_run_id = %s", (run,)) == [
        (50 + HOPE_EVENTS_MIN,)
    ]


def test_what_is_written_in_hope_is_what_would_be_written_with_care(
    one_partition: Line, hopeful: Gate, looked: list[int]
) -> None:
    """Answers in the order of the request; rows, records and positions as by the rules: marks behind what they cover, the
    hash over the canonical body."""
    batch = [mark("traffic", 3, run=RUN), *(traffic(n, run=RUN) for n in range(5)), mark("arrival_events", 3, run=RUN)]
    results = hopeful.post(batch).results
    assert looked == []
    assert [result["event_id"] for result in results] == [event["event_id"] for event in batch]
    assert [(r["status"], r["receipt"]["topic"], r["receipt"]["position"]) for r in results] == [
        ("ADMITTED", "traffic", 5), *(("ADMITTED", "traffic", n) for n in range(5)), ("ADMITTED", "arrival_events", 0)
    ]  # fmt: skip
    in_order = [batch[6], *batch[1:6], batch[0]]
    bodies = [orjson.dumps(event, option=orjson.OPT_SORT_KEYS) for event in in_order]
    assert admitted_of(one_partition) == [
        (
            event["event_id"],
            event["event_type"],
            hashlib.sha256(body).hexdigest(),
            "world_stream_producer",
            RUN,
            topic,
            at,
            body,
        )
        for event, body, topic, at in zip(
            in_order, bodies, ["arrival_events"] + ["traffic"] * 6, [0, *range(6)], strict=True
        )
    ]
    assert [(r.body, r.key) for r in one_partition.records("traffic")] == [
        *((body, f"flow-{n}") for n, body in enumerate(bodies[1:6])), (bodies[6], "mark-0")
    ]  # fmt: skip
    assert hopeful.post(batch).results == [{**result, "status": "DUPLICATE"} for result in results]


def as_lines(events: list[dict[str, Any]]) -> bytes:
    return b"\n".join(map(orjson.dumps, events))


def test_lines_are_hoped_for_as_well(one_partition: Line, hopeful: Gate, looked: list[int]) -> None:
    """NDJSON: the same batch, one event a line."""
    body = as_lines([traffic(n, run=RUN) for n in range(5)])
    answer = hopeful.request("POST", "/v1/events", body, content_type="application/x-ndjson")
    assert answer.statuses == ["ADMITTED"] * 5
    assert looked == []
    assert len(admitted_of(one_partition)) == 5


def good(number: int) -> dict[str, Any]:
    return traffic(number, run=RUN)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "another currency": (lambda: traffic(7, run=RUN, currency="EUR"), "CURRENCY_NOT_SUPPORTED"),
    "a field too many": (lambda: traffic(7, run=RUN, colour="red"), "SCHEMA_FAIL"),
    "a run nobody began": (lambda: traffic(7, run="platform_20991231T000000Z"), "RUN_UNKNOWN"),
    "not an event": (lambda: 7, "ENVELOPE_INVALID"),
    "no type": (lambda: {"event_id": "7"}, "PINS_MISSING"),
    "a type that is a list": (lambda: {**good(7), "event_type": ["traffic"]}, "ENVELOPE_INVALID"),
    "a type nobody knows": (lambda: {**good(7), "event_type": "weather"}, "EVENT_TYPE_UNKNOWN"),
    "a mark of a topic of ours": (
        lambda: {**mark("traffic", 7, run=RUN), "payload": {"output": "control"}},
        "SCHEMA_FAIL",
    ),
    "a mark of no output": (lambda: {**mark("traffic", 7, run=RUN), "payload": {"output": ["traffic"]}}, "SCHEMA_FAIL"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_one_bad_event_is_refused_and_the_others_are_admitted(one_partition: Line, hopeful: Gate, kind: str) -> None:
    """Wherever it stands in the batch: as if nobody had hoped."""
    make, reason = WRONG[kind]
    for first, place in ((0, 0), (10, 3), (20, 6)):
        batch: list[Any] = [good(number) for number in range(first, first + 6)]
        batch.insert(place, make())
        results = hopeful.post(batch).results
        assert [r["status"] for r in results] == ["QUARANTINED" if at == place else "ADMITTED" for at in range(7)]
        assert results[place]["reason"] == reason
        assert len(admitted_of(one_partition)) == 6 * (first // 10 + 1)
    assert [row[6] for row in admitted_of(one_partition)] == list(range(18)), "positions that were given back are used"
    assert None not in {row[7] for row in admitted_of(one_partition)}


def test_the_same_event_twice_in_a_batch_is_admitted_once(one_partition: Line, hopeful: Gate) -> None:
    """As a repeat when it is the same, kept apart when it is not."""
    batch = [good(0), good(1), good(0), traffic(1, run=RUN, amount_minor=7)]
    results = hopeful.post(batch).results
    assert [r.get("reason", r["status"]) for r in results] == [
        "ADMITTED",
        "ADMITTED",
        "DUPLICATE",
        "PAYLOAD_HASH_MISMATCH",
    ]
    assert results[2]["receipt"] == results[0]["receipt"]
    assert len(admitted_of(one_partition)) == 2


def test_a_key_s_scope_holds_for_who_is_hoped_of(one_partition: Line, hopeful: Gate) -> None:
    """A client may send no marks, and no batch of his makes room for one."""
    results = hopeful.post([good(0), mark("traffic", 0, run=RUN)], key=CLIENT_KEY).results
    assert [r.get("reason", r["status"]) for r in results] == ["ADMITTED", "EVENT_TYPE_NOT_IN_SCOPE"]
    assert len(admitted_of(one_partition)) == 1


def error_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["error"]


def test_a_body_that_is_wrong_as_a_whole_is_refused_as_ever(one_partition: Line, hopeful: Gate) -> None:
    """No JSON, too deep, even too deep for the parser, too many events."""
    refused = {
        b"[{": (400, "malformed_json"),
        b"[" * 40 + b"]" * 40: (400, "too_deep"),
        b"[" * 5000 + b"]" * 5000: (400, "too_deep"),
        orjson.dumps([good(number) for number in range(1001)]): (413, "batch_too_large"),
    }
    for body, expected in refused.items():
        assert error_of(hopeful.request("POST", "/v1/events", body)) == expected
    assert admitted_of(one_partition) == []


def test_who_was_refused_something_is_judged_first_again(one_partition: Line, gate: Gate, looked: list[int]) -> None:
    """One bad event costs a sender the hope, and as many good batches as at first bring it back."""
    run = one_partition.begin_run("platform_20260101T111111Z")
    numbers = iter(range(10**6))

    def batch() -> list[dict[str, Any]]:
        return [traffic(next(numbers), run=run) for _ in range(HOPE_EVENTS_MIN)]

    for _ in range(HOPE_AFTER_BATCHES):
        gate.post(batch())
    before = len(looked)
    gate.post(batch())
    assert len(looked) == before
    gate.post([*batch(), traffic(0, run=run, currency="EUR")])
    for _ in range(HOPE_AFTER_BATCHES):
        gate.post(batch())
    assert len(looked) == before + 1 + HOPE_AFTER_BATCHES
    gate.post(batch())
    assert len(looked) == before + 1 + HOPE_AFTER_BATCHES


def test_topics_with_several_partitions_are_never_hoped_for(
    line: Line, monkeypatch: pytest.MonkeyPatch, looked: list[int]
) -> None:
    """Where a key chooses the partition a record's place is known only when the event is judged."""
    hope_of_everything(monkeypatch)
    with open_gate(line) as gate:
        assert gate.post([good(number) for number in range(9)]).statuses == ["ADMITTED"] * 9
    assert looked == [9]
    assert {row[5] for row in admitted_of(line)} <= set(OUTPUTS)
