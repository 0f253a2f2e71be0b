"""platform deadletters redrive and skip: a mended cause, the same record, its own worker, exactly once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import orjson
import psycopg
import pytest
import structlog

from fraud_daemons.bus.port import OutRecord, Record
from fraud_daemons.clock import ManualClock, SystemClock
from fraud_daemons.errors import PoisonFault
from fraud_daemons.postgres_runtime.connector import close_thread_connections
from fraud_daemons.runtime.consumer import Consumer, Pace, StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker
from fraud_daemons.state import letter_orders
from fraud_daemons.state.letters import LetterAddress
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core import identity_entity_graph
from tests.faults import test_killed_at_every_statement as faults
from tests.faults.killing import killed_at
from tests.integration import test_case_changes
from tests.integration.lane import bind, flow, pin
from tests.integration.test_case_changes import Platform
from tests.integration.whole_line import ask_for_report, finish, reporter, stream_the_world
from tests.line import Line, at_work

platform = test_case_changes.platform


def working(line: Line, worker: Worker) -> AbstractContextManager[None]:
    """A worker in a thread of its own, on a clock that runs."""
    return at_work(lambda: line.activities(worker), clock=line.clock, advance_seconds=0.2)


def said(out: str) -> dict[str, Any]:
    """The command's object; workers in this process log beside it."""
    found: dict[str, Any] = json.loads(next(text for text in out.splitlines() if text.startswith("{")))
    return found


def letters(line: Line) -> list[tuple[str, str]]:
    return [
        (f"{worker}:{topic}:{partition}:{position}", state)
        for worker, topic, partition, position, state in line.sql(
            'select worker, topic, "partition", "position", state from dead_letters.letters order by worker, "position"'
        )
    ]


def test_a_mended_worker_takes_the_record_and_the_report_counts_it_as_applied(
    line: Line, short_dir: Any, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in the entity graph makes one flow a letter, a term of the report. Mended and redriven it is in the graph
    once, the term is gone, every equation holds; asked again the letter is beyond orders."""
    stream_the_world(line, short_dir)
    healthy = identity_entity_graph.shown_by
    victim = "flow of the third record"

    def defective(body: dict[str, Any]) -> Any:
        nonlocal victim
        if victim == "flow of the third record" and body["source_seq"] >= 3:
            victim = body["flow_id"]
        if body["flow_id"] == victim:
            raise ValueError("a defect")
        return healthy(body)

    monkeypatch.setattr(identity_entity_graph, "shown_by", defective)
    finish(line)
    report = ask_for_report(line, reporter(line))
    assert report is not None
    assert report["terms"]["dead_lettered"] == 1
    [(letter, state)] = letters(line)
    assert (letter.partition(":")[0], state) == ("identity_entity_graph", "DEAD")
    with working(line, identity_entity_graph.WORKER):
        code, out, _ = platform("deadletters", "redrive", letter, "--reason", "not yet mended", "--by", "ada", "--json")
        assert (code, said(out)["letters"][0]["state"]) == (1, "FAILED")
        assert letters(line) == [(letter, "DEAD")]
        monkeypatch.setattr(identity_entity_graph, "shown_by", healthy)
        code, out, _ = platform("deadletters", "redrive", letter, "--reason", "mended", "--by", "ada", "--json")
    assert (code, said(out)["redriven"]) == (0, 1)
    assert letters(line) == [(letter, "REDRIVEN")]
    report = ask_for_report(line, reporter(line), 2)
    assert report is not None
    assert (report["terms"]["dead_lettered"], report["verdict"]) == (0, "PASS")
    applied = line.sql("select count(*) from ieg.applied where flow_id = %s", (victim,))
    assert applied == [(1,)]
    for order in ("redrive", "skip"):
        code, _, err = platform("deadletters", order, letter, "--reason", "again")
        assert code == 1
        assert "redriven already, by ada" in err
    shown = said(platform("deadletters", "show", letter, "--json")[1])
    assert [(o["kind"], o["state"], o["reason"]) for o in shown["orders"]] == [
        ("REDRIVE", "FAILED", "not yet mended"), ("REDRIVE", "DONE", "mended"),
    ]  # fmt: skip
    assert "a defect" in shown["orders"][0]["detail"]
    governed = line.sql("select done_by, detail ->> 'reason' from control.governance where kind = 'LETTER_ORDERED' order by happened_at")  # fmt: skip
    assert governed == [("ada", "not yet mended"), ("ada", "mended")]


def test_a_bound_record_is_decided_when_its_letter_is_redriven_under_normal(
    line: Line, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound record that failed under DEGRADED_2 is decided after the mend, though the fabric reads features only by then."""
    line.begin_run()
    pin(line, "DEGRADED_2")
    healthy = decision_fabric.decide

    def defective(*_: Any) -> Any:
        raise ValueError("a defect")

    monkeypatch.setattr(decision_fabric, "decide", defective)
    bind(line, [flow(1)])
    line.work(decision_fabric.WORKER)
    [(letter, _)] = letters(line)
    monkeypatch.setattr(decision_fabric, "decide", healthy)
    pin(line, "NORMAL")
    with working(line, decision_fabric.WORKER):
        assert platform("deadletters", "redrive", letter, "--reason", "mended")[::2] == (0, "")
    assert line.sql("select flow_id, feature_status from df.decisions") == [("flow1", "ABSENT")]
    assert [body["flow_id"] for body in line.bodies("decisions")] == ["flow1"]


class Picky(StatelessHandler):
    """Writes a row and a record per record; refuses what is marked while `mended` is False."""

    mended = False

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        for record in records:
            number = orjson.loads(record.body)["n"]
            if number < 0 and not Picky.mended:
                raise PoisonFault("negative", reason="negative")
            unit.connection.execute("insert into doubled values (%s, %s)", (record.event_id, number))
            unit.publish("out", key="k", event_id=record.event_id, platform_run_id=faults.RUN, body={"n": number})


def picky(setting: faults.Setting) -> Consumer:
    return Consumer(
        name="picky", handler=Picky(), topics=["in"], database=setting.database, bus=setting.bus,
        same_server=setting.same_server, clock=SystemClock(), log=structlog.get_logger(), pace=Pace(batch_records_max=5),
    )  # fmt: skip


def drain(consumer: Consumer) -> None:
    """Until there is nothing to do, and no order is open that the consumer has not looked at."""
    quiet = 0
    for _ in range(60):
        try:
            outcome = consumer.step()
        except PoisonFault as fault:
            consumer.forget()
            consumer.isolate(fault)
            continue
        quiet = quiet + 1 if outcome.records == 0 and outcome.rest_seconds > 0 else 0
        if quiet == 2:
            return


def ordered(setting: faults.Setting, position: int) -> None:
    with setting.database.scope() as connection:
        address = LetterAddress("picky", "in", 0, position)
        letter_orders.order(connection, address, "REDRIVE", by="ada", reason="mended", at=SystemClock().now())


setting = faults.setting


def test_killed_at_any_statement_of_a_redrive_it_happens_once(setting: faults.Setting) -> None:
    """For every boundary between statements: killed there and started again, the redriven record is in the state once and
    published once, the letter is REDRIVEN, the order DONE, and no checkpoint moved back."""
    killed = 0
    for position, point in enumerate(range(1, 120)):
        with setting.bus.transaction() as log:
            log.append([OutRecord("in", "k", f"e{position}", faults.RUN, orjson.dumps({"n": -1}))])
        Picky.mended = False
        drain(picky(setting))
        Picky.mended = True
        ordered(setting, position)
        close_thread_connections()
        was_killed = killed_at(point, lambda: drain(picky(setting)))
        killed += was_killed
        drain(picky(setting))
        with psycopg.connect(setting.dsn) as connection:
            rows = connection.execute("select event_id from doubled").fetchall()
            out = connection.execute(
                "select event_id from bus.log where topic = 'out' order by \"position\""
            ).fetchall()
            states = connection.execute(
                "select l.state, o.state, o.detail from dead_letters.letters l join dead_letters.orders o"
                ' using (worker, topic, "partition", "position") order by "position"'
            ).fetchall()
        expected = [(f"e{n}",) for n in range(position + 1)]
        assert sorted(rows, key=lambda row: int(row[0][1:])) == expected, f"state differs after a kill at {point}"
        assert out == expected, f"output differs after a kill at {point}"
        assert states == [("REDRIVEN", "DONE", "")] * (position + 1)
        if not was_killed:
            break
    else:
        pytest.fail("the drain has more boundaries than were tried")
    assert killed >= 20
    Picky.mended = False


def test_two_who_order_at_once_are_one_order_and_five_failures_are_enough(setting: faults.Setting) -> None:
    """A second redrive joins the open one; after five that failed the letter is beyond redriving, and can be skipped."""
    with setting.bus.transaction() as log:
        log.append([OutRecord("in", "k", "e0", faults.RUN, orjson.dumps({"n": -1}))])
    Picky.mended = False
    drain(picky(setting))
    for number in range(1, letter_orders.REDRIVES_MAX + 1):
        ordered(setting, 0)
        ordered(setting, 0)
        with setting.database.scope() as connection:
            orders = letter_orders.orders_of(connection, LetterAddress("picky", "in", 0, 0))
        assert [order.state for order in orders] == ["FAILED"] * (number - 1) + ["OPEN"]
        drain(picky(setting))
    with pytest.raises(letter_orders.OrderRefused, match="redriven 5 times"):
        ordered(setting, 0)
    address = LetterAddress("picky", "in", 0, 0)
    with setting.database.scope() as connection:
        letter_orders.order(connection, address, "SKIP", by="ada", reason="a test", at=SystemClock().now())
    with psycopg.connect(setting.dsn) as connection:
        assert connection.execute("select state from dead_letters.letters").fetchall() == [("SKIPPED",)]
        assert connection.execute("select count(*) from doubled").fetchall() == [(0,)]


def test_what_a_redriven_record_raises_does_not_take_the_worker_down(setting: faults.Setting) -> None:
    """Poison, and a bug that nobody foresaw: each is the order's answer; the records on the topic go on meanwhile."""
    with setting.bus.transaction() as log:
        log.append([OutRecord("in", "k", "e0", faults.RUN, orjson.dumps({"n": -1}))])
    Picky.mended = False
    drain(picky(setting))
    ordered(setting, 0)
    consumer = picky(setting)

    class Buggy(Picky):
        def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
            if records[0].event_id == "e0":
                raise ZeroDivisionError("nobody foresaw it")
            super().handle(records, unit)

    consumer._handler = Buggy()
    with setting.bus.transaction() as log:
        log.append([OutRecord("in", "k", "e1", faults.RUN, orjson.dumps({"n": 1}))])
    drain(consumer)
    with psycopg.connect(setting.dsn) as connection:
        assert connection.execute("select event_id from doubled").fetchall() == [("e1",)]
        [(state, detail)] = connection.execute("select state, detail from dead_letters.orders").fetchall()
    assert (state, detail) == ("FAILED", "ZeroDivisionError: nobody foresaw it")


def test_bad_orders_are_refused_in_a_line(line: Line, platform: Platform) -> None:
    """What is no letter is 2, an unknown one 1, no reason 2, a state nobody knows 2, a letter that nobody has as page 1."""
    line.begin_run()
    unknown = "decision_fabric:flows.bound:0:7"
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("redrive", "nonsense", "--reason", "x"), 2, "is no letter"),
        (("redrive", unknown, "--reason", "x"), 1, "there is no such letter; nothing was ordered"),
        (("skip", unknown, "--reason", "x"), 1, "there is no such letter; nothing was ordered"),
        (("redrive", unknown), 2, "--reason"),
        (("redrive", unknown, "--reason", " "), 2, "say why"),
        (("redrive", "--reason", "x"), 2, "LETTER"),
        (("list", "--state", "gone"), 2, "--state"),
        (("list", "--after", unknown), 1, "no dead letter"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("show", unknown), 1, "no dead letter"),
    ]
    for words, code, message in cases:
        found, _, err = platform("deadletters", *words)
        assert (found, err.count("\n")) == (code, 1), (words, err)
        assert message in err
    assert line.sql("select count(*) from dead_letters.orders") == [(0,)]


def test_a_worker_that_is_away_is_said_and_the_order_stays(line: Line, platform: Platform) -> None:
    """Nobody answers: exit 4 names the letter; the order is carried out when the worker is back."""
    line.begin_run()
    pin(line, "DEGRADED_2")
    line.append("flows.bound", [{**flow(1), "traffic": None}])
    line.work(decision_fabric.WORKER)
    [(letter, _)] = letters(line)
    code, _, err = platform("deadletters", "redrive", letter, "--reason", "try", "--timeout", "1")
    assert code == 4, err
    assert "is decision_fabric running?" in err
    assert isinstance(line.clock, ManualClock)
    line.work(decision_fabric.WORKER)
    assert line.sql("select state from dead_letters.orders") == [("FAILED",)]
