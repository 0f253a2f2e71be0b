"""Poison in a stream: found by halving, set aside once each, and beyond a limit the worker stops instead of pouring it away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from fraud_daemons.bus.port import Record
from fraud_daemons.clock import SystemClock
from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.heartbeat import Heartbeat, HeartbeatFile, read_heartbeat
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.runtime.activity import Outcome
from fraud_daemons.runtime.consumer import Consumer, StatelessHandler
from fraud_daemons.runtime.loop import Limits, Loop
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.workers.case_labels.label_store import WORKER
from tests.line import RUN, Line

TOPIC = "case_events"


class Casting(StatelessHandler):
    """Gives each body's number to the database as an integer: what is none is poison by the database's own word."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.batches: list[int] = []

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        self.batches.append(len(records))
        numbers = [orjson.loads(record.body)["number"] for record in records]
        unit.connection.execute("select n::integer from unnest(%s::text[]) as t(n)", (numbers,)).fetchall()
        self.taken += [record.event_id for record in records]


class SettingAside(Casting):
    """Finds its poison itself, and sets it aside in the same transaction as the good records."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        self.batches.append(len(records))
        for record in records:
            if not orjson.loads(record.body)["number"].isdigit():
                unit.dead_letter(record, reason="no number", detail="as it came")


def _turn(line: Line, handler: Casting, tmp_path: Path, **settings: Any) -> tuple[ExitCode, Heartbeat]:
    """Turn a real loop over a real consumer until the stream is at rest or the worker leaves."""
    consumer = line.context_for(WORKER, settings=settings).consumer(handler, topics=(TOPIC,))
    stop, clock, step = StopRequest(), SystemClock(), consumer.step

    def step_until_idle() -> Outcome:
        outcome = step()
        if outcome.rest_seconds and not outcome.records:
            stop.request()
        return outcome

    consumer.step = step_until_idle  # type: ignore[method-assign]
    me = identity_of(os.getpid())
    assert me
    beat = HeartbeatFile(tmp_path / "w.json", worker="w", pack="p", process=me, clock=clock, version="test")
    loop = Loop([consumer], beat=beat, stop=stop, clock=clock, log=structlog.get_logger(), limits=Limits())
    code = loop.run()
    last = read_heartbeat(tmp_path / "w.json")
    assert last
    return code, last


def _feed(line: Line, count: int, *, poison_every: int = 0, all_but: int = 0) -> list[str]:
    """Records, of which each `poison_every`-th is poison, or all but each `all_but`-th; the ids of the poison."""

    def poisonous(n: int) -> bool:
        return (poison_every > 0 and n % poison_every == 0) or (all_but > 0 and n % all_but != 0)

    line.append(
        TOPIC,
        [
            {"case_id": f"c{n:04}", "platform_run_id": RUN, "number": "x" if poisonous(n) else str(n)}
            for n in range(count)
        ],
    )
    return [f"c{n:04}" for n in range(count) if poisonous(n)]


def _letters(line: Line) -> list[str]:
    return sorted(row[0] for row in line.sql("select event_id from dead_letters.letters"))


@pytest.mark.parametrize("batch_records_max", [1, 64])
def test_every_poisonous_record_and_no_other_is_set_aside(line: Line, tmp_path: Path, batch_records_max: int) -> None:
    """Found in batches over several partitions by halving, also where a batch cannot be halved; the rest is taken once, and
    the batch grows back."""
    poison = _feed(line, 300, poison_every=43)
    handler = Casting()
    code, beat = _turn(line, handler, tmp_path, **{"loop.batch_records_max": batch_records_max})
    assert code is ExitCode.GOOD
    assert _letters(line) == poison
    assert sorted(handler.taken) == sorted({f"c{n:04}" for n in range(300)} - set(poison))
    assert beat.dead_letters == len(poison)
    assert "bug" not in beat.faults
    if batch_records_max > 1:
        first_single = handler.batches.index(1)
        assert max(handler.batches[first_single:]) > 8


@pytest.mark.parametrize("handler", [Casting(), SettingAside()], ids=["found by the loop", "set aside by the handler"])
def test_a_run_of_poison_is_held(line: Line, tmp_path: Path, handler: Casting) -> None:
    """Beyond the longest run that is borne it leaves with 78 and its reason; the rest of the stream stays where it is."""
    _feed(line, 60, poison_every=1)
    code, beat = _turn(line, handler, tmp_path, **{"loop.dead_letters_run_max": 10, "loop.batch_records_max": 4})
    assert code is ExitCode.CONFIGURATION
    assert beat.state == "held"
    assert beat.reason is not None
    assert beat.reason.startswith("case_events: too many dead letters in a row (")
    assert len(_letters(line)) <= 10
    ((moved,),) = line.sql("select sum(position) from checkpoints.positions where topic = %s", (TOPIC,))
    assert moved == len(_letters(line))


def test_a_large_share_of_poison_is_held_though_no_run_is_long(line: Line, tmp_path: Path) -> None:
    """Two of three records poison, for ever: held soon after the letters are more than a burst."""
    _feed(line, 400, all_but=3)
    settings = {"loop.dead_letters_run_max": 30, "loop.batch_records_max": 8}
    code, beat = _turn(line, Casting(), tmp_path, **settings)
    assert code is ExitCode.CONFIGURATION
    assert beat.reason == "case_events: too large a share of dead letters (postgres: 22P02)"
    assert 30 <= len(_letters(line)) <= 40


def test_poison_whose_words_the_database_cannot_hold_is_set_aside_too(line: Line) -> None:
    """A fault's text with a NUL in it does not stop its own letter."""
    line.append(TOPIC, [{"case_id": "c1", "platform_run_id": RUN, "number": "1"}])
    consumer: Consumer = line.context_for(WORKER).consumer(Casting(), topics=(TOPIC,))
    consumer.step()
    (record,) = line.records(TOPIC)
    with line.database.scope() as connection:
        unit = UnitOfWork(connection, worker="w", now=line.clock.now())
        unit.dead_letter(record, reason="a\0b", detail="c\0d")
    assert line.sql("select reason, detail from dead_letters.letters") == [("a\\0b", "c\\0d")]
