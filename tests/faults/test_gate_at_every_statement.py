"""The gate, broken everywhere: killed at every statement, the bus failing before, during and after the
append, the answer to COMMIT lost. No admission is ever without its record or a record without its admission, nothing is
in flight once the transaction is over, and the caller's repeat settles what he could not know."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from fraud_daemons.bus import postgres_log
from fraud_daemons.bus.postgres_log import PostgresLog
from fraud_daemons.clock import SystemClock
from fraud_daemons.domain.admission import Item
from fraud_daemons.domain.envelope import EVENT_TYPES, OUTPUTS
from fraud_daemons.domain.quarantine_redrives import request
from fraud_daemons.errors import TransientFault
from fraud_daemons.evidence.s3 import S3EvidenceStore
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.runtime.database import Database
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress._gate_intake import Intake, answers
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts
from fraud_daemons.workers.control_ingress._gate_transactions import Transactions
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER as GATE
from tests.faults.killing import killed_at
from tests.gate import CLIENT_KEY, Gate, events_of, hope_of_everything, mark, open_gate, prepare, traffic
from tests.line import RUN, Line

POINTS_MAX = 400
SETTLED_SECONDS_MAX = 10.0
PRODUCING = Principal("world_stream_producer", "", frozenset(EVENT_TYPES))
CALLER = Principal("caller", "", frozenset(EVENT_TYPES))


@pytest.fixture(autouse=True)
def _connections_end_here() -> Iterator[None]:
    yield
    close_thread_connections()


def check_nothing_is_in_flight(line: Line) -> None:
    """Rows and records are the same set, both ways, and every row says PUBLISHED with its place."""
    torn = line.sql(
        "select a.event_id, l.event_id from ig.admissions a full join (select * from bus.log where topic = any(%s)) l"
        ' on (l.topic, l."partition", l."position", l.event_id) = (a.topic, a."partition", a."position", a.event_id)'
        " where (a.event_id is null and l.record_key not like 'mark-%%') or l.event_id is null",
        ([*OUTPUTS, "truth"],),
    )
    assert torn == []
    assert line.sql("select count(*) from ig.admissions where publish_state <> 'PUBLISHED'") == [(0,)]
    refused = line.sql(
        "select q.quarantine_id, l.event_id from ig.quarantine q full join"
        " (select event_id from bus.log where topic = 'quarantine') l on l.event_id = q.quarantine_id"
        " where q.quarantine_id is null or l.event_id is null"
    )
    assert refused == []


def rows(line: Line) -> int:
    return int(line.sql("select (select count(*) from ig.admissions) + (select count(*) from ig.quarantine)")[0][0])


# --- killed at every statement

Send = Callable[[Intake, Line, int], set[str]]


def a_batch(intake: Intake, _line: Line, number: int) -> set[str]:
    """Fresh events and a mark, a repeat, a changed one and two bad ones; what the fresh were answered."""
    fresh = [*events_of(range(number * 10, number * 10 + 4), run=RUN), mark("traffic", number * 10 + 4, run=RUN)]
    other = [traffic(1, run=RUN), traffic(2, run=RUN, amount_minor=10_000 + number), {"event_type": f"weather{number}"},
             traffic(number, run=RUN, currency="EUR")]  # fmt: skip
    statuses = [answer["status"] for answer in answered(intake, [*fresh, *other], CALLER)]
    assert statuses[5:] == ["DUPLICATE", "QUARANTINED", "QUARANTINED", "QUARANTINED"]
    return set(statuses[:5])


def answered(intake: Intake, events: Sequence[Any], principal: Principal) -> list[dict[str, Any]]:
    admitted = intake.admit_in_hope(orjson.dumps(events), principal, events_max=100)
    admitted = admitted or intake.admit([Item(event) for event in events], principal)
    return [orjson.loads(answer) for answer in answers(admitted)]


def a_transaction(intake: Intake, line: Line, number: int) -> set[str]:
    """A whole transaction: four events or none."""
    transactions = Transactions(intake=intake, runs_database=line.database, currency="USD")
    body = {"transaction_id": f"t{number}", "occurred_at": "2026-01-01T00:00:00Z", "amount_minor": 1, "currency": "USD"}
    return {orjson.loads(transactions.take(orjson.dumps(body), CALLER).body)["status"]}


def intake_of(line: Line) -> Intake:
    """Newly built: a process that was killed remembers nothing."""
    return Intake(
        database=line.database,
        runs_database=line.database,
        bus=line.bus,
        clock=SystemClock(),
        currency="USD",
        fresh=FreshReceipts(),
    )


@pytest.fixture
def hoping(one_partition: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    hope_of_everything(monkeypatch)
    return one_partition


def all_new(intake: Intake, _line: Line, number: int) -> set[str]:
    """The hope is true: fresh events and a mark."""
    fresh = [mark("traffic", number * 10 + 4, run=RUN), *events_of(range(number * 10, number * 10 + 4), run=RUN)]
    return {answer["status"] for answer in answered(intake, fresh, CALLER)}


def one_repeated(intake: Intake, _line: Line, number: int) -> set[str]:
    """It is not: the server finds a key taken, and the gate looks."""
    fresh = events_of(range(number * 10, number * 10 + 4), run=RUN)
    statuses = [answer["status"] for answer in answered(intake, [*fresh, traffic(1, run=RUN)], CALLER)]
    assert statuses[4:] == ["DUPLICATE"]
    return set(statuses[:4])


def one_refused(intake: Intake, _line: Line, number: int) -> set[str]:
    """It is not: the gate finds a bad event when the server has the first ones."""
    fresh = events_of(range(number * 10, number * 10 + 4), run=RUN)
    statuses = [
        answer["status"] for answer in answered(intake, [*fresh, traffic(number, run=RUN, currency="EUR")], CALLER)
    ]
    assert statuses[4:] == ["QUARANTINED"]
    return set(statuses[:4])


STRIDES = pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["slice", "every"])


@STRIDES
@pytest.mark.parametrize(("send", "rows_of_one"), [(a_batch, 8), (a_transaction, 4)])
def test_killed_at_any_statement_a_request_is_whole_or_not_there(
    line: Line, send: Send, rows_of_one: int, stride: int
) -> None:
    """At every boundary: all of the request's rows or none, each with its record; sent again it is ADMITTED or DUPLICATE
    as a whole, and then it is there once."""
    kill_everywhere(line, send, rows_of_one, stride)


@STRIDES
@pytest.mark.parametrize(("send", "rows_of_one"), [(all_new, 5), (one_repeated, 4), (one_refused, 5)])
def test_killed_at_any_statement_a_batch_in_hope_is_whole_or_not_there(
    hoping: Line, send: Send, rows_of_one: int, stride: int
) -> None:
    """The same where events are judged while the server writes, true hopes and wrong ones."""
    kill_everywhere(hoping, send, rows_of_one, stride)


def kill_everywhere(line: Line, send: Send, rows_of_one: int, stride: int) -> None:
    line.begin_run()
    intake_of(line).admit([Item(event) for event in events_of(range(1, 3), run=RUN)], CALLER)  # what is repeated
    seen: set[str] = set()
    killed = 0
    for point in range(1, POINTS_MAX, stride):
        before = rows(line)
        close_thread_connections()
        was_killed = killed_at(point, lambda number=point: send(intake_of(line), line, number) and None)
        killed += was_killed
        check_nothing_is_in_flight(line)
        kept = rows(line) - before
        assert kept in (0, rows_of_one)
        found = send(intake_of(line), line, point)
        assert found == ({"DUPLICATE"} if kept else {"ADMITTED"})
        seen |= found
        assert rows(line) == before + rows_of_one
        check_nothing_is_in_flight(line)
        if not was_killed:
            break
    else:
        pytest.fail(f"more than {POINTS_MAX} boundaries; the last ones were never tested")
    assert killed >= 20 // stride
    assert stride > 1 or seen == {"ADMITTED", "DUPLICATE"}, "kills before and after the commit"


# --- a bus, and a network, that fail before, during and after


@contextmanager
def behind_a_proxy(line: Line) -> Iterator[WireProxy]:
    """The gate's way to its database."""
    parts = conninfo_to_dict(line.dsn)
    with WireProxy(f"{parts['host']}/.s.PGSQL.{parts['port']}") as proxy:
        dsn = make_conninfo(line.dsn, host="127.0.0.1", port=str(proxy.port))
        direct, line.database = line.database, Database(
            DsnSource(f"PROXY {dsn}", lambda: dsn), ConnectOptions(application_name="test", connect_timeout=2)
        )  # fmt: skip
        line.bus.scope = line.database.scope
        yield proxy
        line.database = direct
        line.bus.scope = direct.scope


def settle(line: Line, gate: Gate, path: str, body: bytes, *, expected: str) -> None:
    """The same request again after the fault's end: answered within the bound, and then nothing is open."""
    ended = time.monotonic()
    while (answer := gate.request("POST", path, body)).status == 503:
        assert time.monotonic() - ended < SETTLED_SECONDS_MAX
        time.sleep(0.05)
    assert time.monotonic() - ended < SETTLED_SECONDS_MAX
    assert {result["status"] for result in answer.body.get("results", answer.body.get("events"))} == {expected}
    check_nothing_is_in_flight(line)


@pytest.mark.parametrize(
    ("strike", "proof", "expected"),
    [(Strike.COMMIT, "commits_lost", "ADMITTED"), (Strike.COMMIT_ANSWER, "commit_answers_lost", "DUPLICATE")],
)
def test_a_commit_or_its_answer_is_lost(line: Line, strike: Strike, proof: str, expected: str) -> None:
    """The caller hears 503 and cannot know. Nothing is in flight; the repeat within ten seconds tells: ADMITTED when the
    commit was lost, DUPLICATE with the first receipt when only its answer was."""
    prepare(line)
    with behind_a_proxy(line) as proxy, open_gate(line) as gate:
        gate.post([traffic(99, run=RUN)])
        for number in range(3):
            for path, body in (
                ("/v1/events", orjson.dumps(events_of(range(number * 5, number * 5 + 5), run=RUN))),
                ("/v1/transactions", orjson.dumps({"flow_id": f"t{number}", "occurred_at": "2026-01-01T00:00:00Z",
                                                   "amount_minor": 1, "currency": "USD"})),
            ):  # fmt: skip
                _strike_at_the_admission(line, gate, proxy, strike, path, body)
                settle(line, gate, path, body, expected=expected)
        assert proxy.figures[proof] >= 6


def _strike_at_the_admission(line: Line, gate: Gate, proxy: WireProxy, strike: Strike, path: str, body: bytes) -> None:
    """Armed at the append, so that no reading transaction takes the blow; the answer is 503 with Retry-After."""
    reserve = PostgresLog.reserve

    def arming(self: PostgresLog, *arguments: Any, **named: Any) -> Any:
        proxy.arm(strike)
        return reserve(self, *arguments, **named)

    PostgresLog.reserve = arming  # type: ignore[method-assign]
    try:
        answer = gate.request("POST", path, body)
    finally:
        PostgresLog.reserve = reserve  # type: ignore[method-assign]
        proxy.pass_on()
    assert (answer.status, answer.body["error"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    check_nothing_is_in_flight(line)


def fail(*_arguments: Any, **_named: Any) -> Any:
    raise TransientFault("the bus gives no answer", reason="bus: no answer")


@contextmanager
def write_and_fail(writing: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    with writing(*arguments):
        yield
    fail()


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_bus_that_fails_before_during_and_after_the_append(
    line: Line, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """503 with Retry-After each time and no row is left behind; after the fault's end the same request is ADMITTED."""
    with open_gate(line) as gate:
        for number in range(3):
            body = orjson.dumps(
                [*events_of(range(number * 5, number * 5 + 5), run=RUN), mark("traffic", number, run=RUN)]
            )
            with monkeypatch.context() as failing:
                match moment:
                    case "before":
                        failing.setattr(PostgresLog, "reserve", fail)
                    case "during":  # positions are taken, no record is written yet
                        failing.setattr(postgres_log, "copying", fail)
                    case _:
                        writing = PostgresLog.writing
                        failing.setattr(PostgresLog, "writing", lambda *a, _whole=writing: write_and_fail(_whole, *a))
                for _ in range(2):
                    answer = gate.request("POST", "/v1/events", body)
                    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                    assert rows(line) == number * 6
                    check_nothing_is_in_flight(line)
            settle(line, gate, "/v1/events", body, expected="ADMITTED")
        # positions have no gap: what was taken by a failed append was given back with it
        assert [(r.position) for r in line.records("traffic") if r.partition == 0] == list(
            range(sum(r.partition == 0 for r in line.records("traffic")))
        )


def test_a_reset_in_the_middle_of_any_answer_of_the_database(line: Line) -> None:
    """The connection breaks inside the answer to each statement in turn; the gate goes on with a new one."""
    prepare(line)
    with behind_a_proxy(line) as proxy, open_gate(line) as gate:
        gate.post([traffic(99, run=RUN)])
        answered = set()
        for number in range(12):
            body = orjson.dumps(events_of(range(number * 5, number * 5 + 5), run=RUN))
            proxy.arm(Strike.STATEMENT, 1 + number % 3)
            answered.add(gate.request("POST", "/v1/events", body).status)
            proxy.pass_on()
            check_nothing_is_in_flight(line)
            results = gate.request("POST", "/v1/events", body, key=CLIENT_KEY)
            assert results.status in (200, 503)
            settle(line, gate, "/v1/events", body, expected="DUPLICATE" if results.status == 200 else "ADMITTED")
        assert proxy.figures["statements_reset"] >= 12
        assert answered <= {200, 503}
        assert 503 in answered


# --- a refused event that a person sends through again


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["slice", "every"])
def test_a_redrive_killed_at_any_statement_admits_once(line: Line, stride: int) -> None:
    """At every boundary: restarted, the event is admitted once, and the request has one answer."""
    prepare(line)
    line.make_store()  # it runs before anything is forked: a child that is killed would leave its folder
    admitted = killed = 0
    for point in range(1, POINTS_MAX, stride):
        later = f"platform_20991231T{point:06}Z"
        [answer] = answered(intake_of(line), [traffic(point, run=later)], PRODUCING)
        assert answer["reason"] == "RUN_UNKNOWN"
        line.begin_run(later)
        body = request(platform_run_id="", quarantine_id=answer["quarantine_id"], asked_by="ada", reason="begun",
                       requested_at=f"2026-01-01T00:00:00.{point:06}Z")  # fmt: skip
        line.append("control", [body], event_id=lambda asked: asked["request_id"])
        close_thread_connections()
        was_killed = killed_at(point, partial(_redrive, line))
        killed += was_killed
        check_nothing_is_in_flight(line)
        _redrive(line)
        check_nothing_is_in_flight(line)
        admitted += 1
        assert line.sql("select count(*) from ig.admissions where platform_run_id = %s", (later,)) == [(1,)]
        outcomes = line.sql("select outcome from ig.redrives where request_id = %s", (body["request_id"],))
        assert outcomes == [("ADMITTED",)]
        if not was_killed:
            break
    else:
        pytest.fail(f"more than {POINTS_MAX} boundaries; the last ones were never tested")
    assert killed >= 20 // stride
    assert len(line.records("traffic")) == admitted


def _redrive(line: Line) -> None:
    """A process of the gate that only carries out what people ask."""
    line.drain(line.activities(GATE)[3:4])


# --- the writer of receipts, killed at every statement and every put


@pytest.mark.parametrize(
    "stride", [23, pytest.param(1, marks=(pytest.mark.slow, pytest.mark.timeout(3600)))], ids=["slice", "every"]
)
def test_evidence_killed_at_any_statement_is_written_once_and_whole(line: Line, stride: int) -> None:
    """An object's row is INTENT from before its put until after it: whatever is killed between, the next process settles
    it, and receipts and refusals in the store are those in the tables, each once."""
    prepare(line)
    line.run = line.begin_run(f"platform_20260103T{zlib.crc32(line.dsn.encode()) % 10**6:06}Z")  # the store is shared
    line.make_store().list("nothing/")  # it runs before anything is forked
    killed = pending = 0
    for point in range(1, POINTS_MAX, stride):
        batch = [
            *events_of(range(point * 3, point * 3 + 3), run=line.run),
            traffic(point, run=line.run, currency="EUR"),
        ]
        intake_of(line).admit([Item(event) for event in batch], CALLER)
        close_thread_connections()
        was_killed = killed_at(point, partial(_seal, line), also=[(S3EvidenceStore, "put_once")])
        killed += was_killed
        pending += line.sql("select count(*) from ig.segments where state = 'INTENT'")[0][0]
        _seal(line)
        assert line.sql("select count(*) from ig.segments where state <> 'COMPLETE'") == [(0,)]
        assert _sealed(line, "ig/receipts", "event_id") == _kept(line, "event_id", "ig.admissions")
        assert _sealed(line, "ig/quarantine", "quarantine_id") == _kept(line, "quarantine_id", "ig.quarantine")
        if not was_killed:
            break
    else:
        pytest.fail(f"more than {POINTS_MAX} boundaries; the last ones were never tested")
    assert killed >= 40 // stride
    assert pending > 0 or stride > 1, "some kills came between the intent and its completion"


def _seal(line: Line) -> None:
    """A process of the gate that only writes evidence."""
    activities = line.activities(GATE, settings={"evidence.linger_seconds": 0.0})[1:3]
    line.drain(activities, advance_seconds=2.0)


def _sealed(line: Line, family: str, name: str) -> list[str]:
    store = line.make_store()
    objects = [orjson.loads(store.get(found.key)) for found in store.list(f"{line.run}/{family}/")]
    return sorted(record[name] for document in objects for record in document["records"])


def _kept(line: Line, name: str, table: str) -> list[str]:
    return [
        row[0] for row in line.sql(f"select {name} from {table} where platform_run_id = %s order by 1", (line.run,))
    ]
