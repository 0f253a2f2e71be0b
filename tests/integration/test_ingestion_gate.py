"""The ingestion gate over real HTTP, on a real database and object store."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from fraud_daemons.bus.port import partition_of
from fraud_daemons.domain.admission import MARK_KEY
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.runtime.database import Database
from fraud_daemons.workers.control_ingress import ingestion_gate
from fraud_daemons.workers.control_ingress._gate_appending import keys_of_others
from fraud_daemons.workers.control_ingress._gate_intake import Intake
from tests.gate import CLIENT_KEY, Gate, admit_everything, events_of, free_port, mark, open_gate, prepare, traffic
from tests.line import RUN, Line


@pytest.fixture
def gate(line: Line) -> Iterator[Gate]:
    with open_gate(line) as opened:
        yield opened


def seal(line: Line, gate: Gate) -> None:
    """Everything admitted and refused becomes objects. Twice: a sealer that lingers looks idle."""
    for _ in range(2):
        line.drain(gate.activities[1:], advance_seconds=2.0)


def objects(line: Line, family: str, *, run: str) -> list[dict[str, Any]]:
    """The entries of all evidence objects of a family, by listing the store. Tests share it, so each has its own run."""
    store = line.make_store()
    keys = [facts.key for facts in store.list(f"{run}/{family}/")]
    return [entry for key in keys for entry in orjson.loads(store.get(key))["records"]]


def unpinned_objects(line: Line) -> list[bytes]:
    """The objects about refusals without a run that this test's own gate wrote."""
    rows = line.sql("select object_key from ig.segments where platform_run_id = ''")
    return [line.make_store().get(key) for (key,) in rows]


def check_admission_fact(line: Line, gate: Gate) -> None:
    """The row of the issue: repeats carry the first receipts, a changed byte is an anomaly with both payloads kept,
    and admitted rows equal receipts in the object store."""
    run = line.begin_run("platform_20260101T000001Z")
    batch = events_of(range(20), run=run)
    first, second = gate.post(batch).results, gate.post(batch).results
    assert [r["status"] for r in first] == ["ADMITTED"] * 20
    assert [r["status"] for r in second] == ["DUPLICATE"] * 20
    assert [r["receipt"] for r in second] == [r["receipt"] for r in first]
    changed = traffic(3, run=run, amount_minor=1001)
    refused = gate.post([changed]).results[0]
    assert (refused["status"], refused["reason"]) == ("QUARANTINED", "PAYLOAD_HASH_MISMATCH")
    seal(line, gate)
    kept = {orjson.loads(entry["body"])["payload"]["amount_minor"] for entry in objects(line, "ig/quarantine", run=run)}
    assert kept == {1001}
    amounts = [b["payload"]["amount_minor"] for b in line.bodies("traffic") if b["event_id"] == changed["event_id"]]
    assert amounts == [1000]
    admitted = {
        tuple(row)
        for row in line.sql('select event_id, payload_hash, topic, "partition", "position" from ig.admissions')
    }
    receipts = [
        (e["event_id"], e["payload_hash"], e["topic"], e["partition"], e["position"])
        for e in objects(line, "ig/receipts", run=run)
    ]
    assert len(admitted) == 20
    assert len(receipts) == len(set(receipts))
    assert set(receipts) == admitted


def test_a_repeat_carries_the_first_receipt_and_a_changed_byte_is_kept_apart(line: Line, gate: Gate) -> None:
    """Same batch twice: the first receipts again. One changed byte: PAYLOAD_HASH_MISMATCH, both payloads kept.
    Admitted rows = receipts in the object store."""
    check_admission_fact(line, gate)


def test_a_gate_that_admits_everything_breaks_the_fact(line: Line, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass-through - every event of the right shape is admitted, nothing is looked up or written - turns it red."""

    monkeypatch.setattr(Intake, "admit", admit_everything)
    with pytest.raises(AssertionError):
        check_admission_fact(line, gate)


def test_one_bad_event_never_fails_its_batch(line: Line, gate: Gate) -> None:
    """Each event has its own answer, in the order of the request; only the good ones reach the bus."""
    good = events_of(range(3), run=RUN)
    wrong_type = traffic(7, run=RUN, amount_minor="12")  # type: ignore[arg-type]
    batch = [
        good[0],
        {**good[1], "event_type": "weather"},
        wrong_type,
        {**traffic(8, run=RUN), "schema_version": "9"},
        {**traffic(9, run=RUN), "pins": {"world": "test"}},
        traffic(10, run="platform_20300101T000000Z"),
        "not an event",
        good[1],
        traffic(11, run=RUN, currency="EUR"),
        good[2],
    ]
    answer = gate.post(batch)
    assert [r.get("reason", r["status"]) for r in answer.results] == [
        "ADMITTED",
        "EVENT_TYPE_UNKNOWN",
        "SCHEMA_FAIL",
        "SCHEMA_VERSION_NOT_ALLOWED",
        "PINS_MISSING",
        "RUN_UNKNOWN",
        "ENVELOPE_INVALID",
        "ADMITTED",
        "CURRENCY_NOT_SUPPORTED",
        "ADMITTED",
    ]
    assert all("12" not in r.get("detail", "") for r in answer.results)
    assert {b["event_id"] for b in line.bodies("traffic")} == {e["event_id"] for e in good}
    assert len(line.records("quarantine")) == 7


def test_a_refusal_that_comes_again_is_one_row_and_one_record(line: Line, gate: Gate) -> None:
    """The same refused bytes again raise `seen` and add nothing else; a refusal without a run is kept as unpinned."""
    batch = [{"event_type": "weather"}, {"event_type": "weather"}]
    gate.post(batch)
    gate.post(batch)
    assert line.sql("select platform_run_id, reason, seen from ig.quarantine") == [("", "EVENT_TYPE_UNKNOWN", 4)]
    assert len(line.records("quarantine")) == 1
    seal(line, gate)
    assert len(unpinned_objects(line)) == 1


def test_repeats_inside_one_batch_are_duplicates(line: Line, gate: Gate) -> None:
    """An id that comes twice in one body is admitted once; with another payload the second is the anomaly."""
    event, other = traffic(1, run=RUN), traffic(1, run=RUN, amount_minor=5)
    results = gate.post([event, event, other]).results
    assert [r["status"] for r in results] == ["ADMITTED", "DUPLICATE", "QUARANTINED"]
    assert results[1]["receipt"] == results[0]["receipt"]
    assert line.sql("select event_type, repeats from ig.repeats") == [("traffic", 1)]


def test_a_mark_follows_the_events_of_its_request_on_every_partition(line: Line, gate: Gate) -> None:
    """A progress mark stands behind what it covers, on each partition of its output's topic."""
    batch = [mark("traffic", 30, run=RUN), *events_of(range(30), run=RUN)]
    assert set(gate.post(batch).statuses) == {"ADMITTED"}
    by_partition: dict[int, list[str]] = {}
    for record in line.records("traffic"):
        by_partition.setdefault(record.partition, []).append(orjson.loads(record.body)["event_type"])
    assert len(by_partition) == 3
    for kinds in by_partition.values():
        assert kinds[-1] == "progress_mark"
        assert kinds.count("progress_mark") == 1
    assert gate.post(batch).statuses == ["DUPLICATE"] * 31


def test_there_is_a_key_for_every_partition() -> None:
    """The keys by which a mark reaches its partitions do land there."""
    for partitions in (1, 2, 3, 64):
        keys = (MARK_KEY, *keys_of_others(MARK_KEY, partitions))
        assert sorted(partition_of(key, partitions) for key in keys) == list(range(partitions))


def test_ndjson_and_single_events_are_taken(gate: Gate) -> None:
    """One object, one object per line, and lines under plain JSON's name all work; a broken line is one bad event."""
    one, two, three = events_of(range(3), run=RUN)
    assert gate.post(one).statuses == ["ADMITTED"]
    lines = orjson.dumps(two) + b"\n" + b'{"event_id": \n' + orjson.dumps(three) + b"\n"
    answer = gate.request("POST", "/v1/events", lines, content_type="application/x-ndjson")
    assert [r.get("reason", r["status"]) for r in answer.results] == ["ADMITTED", "ENVELOPE_INVALID", "ADMITTED"]
    assert gate.request("POST", "/v1/events", lines).statuses == ["DUPLICATE", "QUARANTINED", "DUPLICATE"]


def test_bytes_that_are_no_text_are_kept_as_base64(line: Line, gate: Gate) -> None:
    """A refused line keeps its original bytes, whatever they are."""
    lines = b'{"event_id": "\xff\xfe"}\n' + orjson.dumps(traffic(1, run=RUN))
    answer = gate.request("POST", "/v1/events", lines, content_type="application/x-ndjson")
    assert answer.statuses == ["QUARANTINED", "ADMITTED"]
    seal(line, gate)
    [body] = unpinned_objects(line)
    assert b"body_base64" in body


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [(b"{not json", 400, "malformed_json"), (b"", 400, "malformed_json"), (b'[{"a": 1}', 400, "malformed_json")],
)
def test_a_body_that_is_no_json_is_refused_whole(line: Line, gate: Gate, body: bytes, status: int, error: str) -> None:
    """Malformed JSON: 400 with error, detail and fix; nothing is kept."""
    answer = gate.request("POST", "/v1/events", body)
    assert (answer.status, answer.body["error"]) == (status, error)
    assert answer.body["detail"]
    assert answer.body["fix"]
    assert line.sql("select count(*) from ig.quarantine") == [(0,)]


def test_too_large_a_batch_or_body_is_refused_whole(line: Line) -> None:
    """413 in JSON for too many events, too many bytes, and bytes beyond what the server even buffers."""
    with open_gate(line, settings={"gate.batch_events_max": 10, "gate.body_bytes_max": 20_000}) as gate:
        many = gate.post(events_of(range(11), run=RUN))
        assert (many.status, many.body["error"]) == (413, "batch_too_large")
        long = gate.request("POST", "/v1/events", b" " * 20_001)
        assert long.status == 413
        assert {"error", "detail", "fix"} <= long.body.keys()
    assert line.sql("select count(*) from ig.admissions") == [(0,)]


def test_a_missing_or_wrong_key_is_refused(line: Line, gate: Gate) -> None:
    """401 for both, told apart by name, and before the body is looked at."""
    missing, wrong = gate.post({}, key=None), gate.post({}, key="guess")
    assert (missing.status, missing.body["error"]) == (401, "key_missing")
    assert (wrong.status, wrong.body["error"]) == (401, "key_wrong")
    assert gate.request("GET", "/v1/decisions/x", key=None).status == 401
    assert line.sql("select count(*) from ig.quarantine") == [(0,)]


def test_a_key_is_good_for_its_scope_only(gate: Gate) -> None:
    """A client's key sends transactions, never truth or marks."""
    truth = {**traffic(1, run=RUN), "event_type": "truth"}
    truth["payload"] = {
        "flow_id": "flow-1",
        "fraud": True,
        "fraud_type": None,
        "effective_time": truth["occurred_at"],
        "source_ref": None,
        "correction": 0,
    }
    results = gate.post([truth, traffic(1, run=RUN)], key=CLIENT_KEY).results
    assert [r.get("reason", r["status"]) for r in results] == ["EVENT_TYPE_NOT_IN_SCOPE", "ADMITTED"]


def test_unknown_paths_and_wrong_methods_are_answered_in_json(gate: Gate) -> None:
    """404 and 405, both in JSON; health needs no key."""
    assert gate.request("GET", "/nothing").status == 404
    assert gate.request("GET", "/v1/events").status == 405
    assert gate.request("POST", "/v1/decisions/x", b"").status == 405
    assert gate.request("GET", "/healthz", key=None).status == 200
    assert gate.request("GET", "/readyz", key=None).status == 200


def test_an_event_is_one_per_run_and_type(line: Line, gate: Gate) -> None:
    """The key is narrow, a uuid and a hash; it still tells runs and types apart, and nothing but its own repeat is one."""
    runs = [line.begin_run(f"platform_20260101T20202{digit}Z") for digit in range(3)]
    events = [traffic(7, run=run) for run in runs]
    assert len({event["event_id"] for event in events}) == 1
    others = [{**mark("traffic", 7, run=run), "event_id": events[0]["event_id"]} for run in runs]
    assert gate.post([*events, *others]).statuses == ["ADMITTED"] * 6
    assert gate.post([*events, *others]).statuses == ["DUPLICATE"] * 6
    seal(line, gate)
    [(partitions,)] = line.sql("select count(*) from bus.heads where topic = 'traffic'")
    assert {len(objects(line, "ig/receipts", run=run)) for run in runs} == {1 + partitions}, "a mark has one in each"


def sessions(line: Line) -> int:
    return int(line.sql("select count(*) from pg_stat_activity where datname = current_database()")[0][0])


def test_every_thread_has_its_session_before_its_first_request(line: Line) -> None:
    """A quiet gate turns in one thread; when many callers come at once the others need not connect first."""
    prepare(line)
    before = sessions(line)
    with open_gate(line, settings={"gate.threads": 6}) as gate:
        ends = time.monotonic() + 10
        while sessions(line) < before + 6:
            assert time.monotonic() < ends
            time.sleep(0.02)
        gate.post(events_of(range(5), run=RUN))
        opened = sessions(line)
        callers = [threading.Thread(target=gate.post, args=(events_of(range(5), run=RUN),)) for _ in range(12)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert sessions(line) == opened


def test_the_same_events_over_several_connections_are_admitted_once(line: Line, gate: Gate) -> None:
    """Four threads send the same batch at once: every event has one receipt, and all answers agree on it."""
    batch = events_of(range(200), run=RUN)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(gate.post(batch).results)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(line.records("traffic")) == 200
    assert sum(r["status"] == "ADMITTED" for results in answers for r in results) == 200
    for per_event in zip(*answers, strict=True):
        assert len({orjson.dumps(r["receipt"]) for r in per_event}) == 1


def test_the_database_away_is_503_and_nothing_half_done(line: Line) -> None:
    """Without its database the gate says 503 with Retry-After; it still answers /healthz."""
    prepare(line)
    port = free_port()
    dead = Database(
        DsnSource("DEAD", lambda: f"postgresql://nobody@127.0.0.1:{port}/none"), ConnectOptions(connect_timeout=2)
    )
    alive, line.database = line.database, dead
    with open_gate(line) as gate:
        answer = gate.post(events_of(range(2), run=RUN))
        assert (answer.status, answer.body["error"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert gate.request("GET", "/healthz").status == 200
        assert gate.request("GET", "/readyz").status == 503
    line.database = alive
    assert line.records("traffic") == []


def test_a_draining_gate_takes_nothing_more(gate: Gate) -> None:
    """After the stop request: 503 with Retry-After."""
    gate.stop.request()
    answer = gate.post(events_of(range(2), run=RUN))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_sealing_repeats_the_same_bytes_after_a_crash(line: Line, gate: Gate) -> None:
    """A segment intended before a crash is rendered again to the same bytes by the next process."""
    run = line.begin_run("platform_20260101T000002Z")
    gate.post([*events_of(range(30), run=run), mark("traffic", 30, run=run)])
    receipts = gate.activities[1]
    for _ in range(3):
        receipts.step()
        line.clock.advance(2)
    pending = line.sql("select count(*) from ig.segments where state = 'INTENT'")[0][0]
    assert pending > 0
    receipts.forget()
    seal(line, gate)
    assert line.sql("select count(*) from ig.segments where state = 'INTENT'") == [(0,)]
    entries = objects(line, "ig/receipts", run=run)
    assert len({e["event_id"] for e in entries}) == 31


def test_a_port_in_use_is_a_configuration_fault(line: Line) -> None:
    """The worker says which port and who holds it, and is held instead of looping."""
    from fraud_daemons.errors import FatalFault

    with open_gate(line):
        second = ingestion_gate.WORKER.build(line.context_for(ingestion_gate.WORKER))
        with pytest.raises(FatalFault, match=rf"cannot listen on \S+: Address already in use by pid {os.getpid()} "):
            second[0].step()


def test_what_is_not_http_is_refused_in_json(gate: Gate) -> None:
    """Even the server's own refusals are JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
    connection.putrequest("POST", "/v1/events")
    connection.putheader("Content-Length", "many")
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 400
    assert {"error", "detail", "fix"} <= orjson.loads(response.read()).keys()
    connection.close()
