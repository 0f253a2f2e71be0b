"""The gate, while its bus and the way there fail: before, during and after the append, COMMIT or its answer lost, a reset in
any answer. Nothing is in flight once the transaction is over, and the caller's repeat settles what he could not know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from fraud_daemons.bus import postgres_log
from fraud_daemons.bus.postgres_log import PostgresLog
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.runtime.database import Database
from tests.faults.in_flight import check_nothing_is_in_flight, rows
from tests.gate import CLIENT_KEY, Gate, events_of, mark, open_gate, prepare, traffic
from tests.line import RUN, Line

SETTLED_SECONDS_MAX = 10.0


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
