"""The gate, killed at every statement: taking in requests, carrying out redrives, writing evidence. No admission is ever
without its record or a record without its admission, and the caller's repeat settles what he could not know."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
import pytest

from fraud_daemons.clock import SystemClock
from fraud_daemons.domain.admission import Item
from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.domain.quarantine_redrives import request
from fraud_daemons.evidence.s3 import S3EvidenceStore
from fraud_daemons.postgres_runtime.connector import close_thread_connections
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress._gate_intake import Intake, answers
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts
from fraud_daemons.workers.control_ingress._gate_transactions import Transactions
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER as GATE
from tests.faults.in_flight import check_nothing_is_in_flight, rows
from tests.faults.killing import killed_at
from tests.gate import events_of, hope_of_everything, mark, prepare, traffic
from tests.line import RUN, Line

POINTS_MAX = 400
PRODUCING = Principal("world_stream_producer", "", frozenset(EVENT_TYPES))
CALLER = Principal("caller", "", frozenset(EVENT_TYPES))


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
