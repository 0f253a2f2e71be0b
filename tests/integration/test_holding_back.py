"""A handler may leave records of one topic for later until something came on another; the checkpoint waits with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fraud_daemons.bus.port import Record
from fraud_daemons.errors import PoisonFault
from fraud_daemons.runtime.consumer import HELD_SECONDS, Consumer, StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.workers.rtdl_core.online_feature_plane import WORKER
from tests.line import RUN, Line

TOPICS = ("flows.bound", "labels")


class UpTo(StatelessHandler):
    """Takes flows up to the number of the newest label; a label numbered -1 is poison."""

    def __init__(self) -> None:
        self.number = -1
        self.taken: list[int] = []
        self.steps: list[int] = []

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        self.steps.append(len(records))
        for record in records:
            if record.topic == "labels":
                if record.event_id == "bad":
                    raise PoisonFault("bad", reason="bad")
                self.number = max(self.number, int(record.event_id))
        for record in records:
            if record.topic == "flows.bound":
                if int(record.event_id) > self.number:
                    unit.hold(record)
                elif not unit.holds(record):
                    self.taken.append(int(record.event_id))


def consumer(line: Line, handler: UpTo, **settings: Any) -> Consumer:
    return line.context_for(WORKER, settings=settings).consumer(handler, topics=TOPICS)


def flows(line: Line, *numbers: int) -> None:
    line.append("flows.bound", [{"flow_id": str(n), "platform_run_id": RUN} for n in numbers])


def labels(line: Line, *names: str) -> None:
    line.append("labels", [{"label_id": name, "platform_run_id": RUN} for name in names])


def position(line: Line, topic: str) -> int:
    ((found,),) = line.sql("select position from checkpoints.positions where topic = %s", (topic,))
    return int(found)


def test_what_is_held_stays_before_the_checkpoint_and_comes_in_order(one_partition: Line) -> None:
    """Only the prefix that may go is taken; the rest comes once the other topic has spoken, each record once."""
    line, handler = one_partition, UpTo()
    reader = consumer(line, handler)
    flows(line, *range(10))
    labels(line, "3")
    line.drain([reader])
    assert (handler.taken, position(line, "flows.bound")) == ([0, 1, 2, 3], 4)
    labels(line, "7")
    line.drain([reader])
    labels(line, "9")
    line.drain([consumer(line, handler)])  # a new process in between
    assert (handler.taken, position(line, "flows.bound")) == (list(range(10)), 10)


def test_held_records_are_not_read_again_and_again(one_partition: Line) -> None:
    """While nothing comes elsewhere a held topic is left alone but for a look every half second, and its lag is told."""
    line, handler = one_partition, UpTo()
    reader = consumer(line, handler)
    flows(line, *range(10))
    line.drain([reader])
    for _ in range(20):
        assert reader.step().rest_seconds > 0
    assert handler.steps == [10]
    line.clock.advance(2 * HELD_SECONDS)
    reader.step()
    assert handler.steps == [10, 10]
    line.clock.advance(2.0)
    reader.step()
    assert reader.lag_records() == 10


def test_poison_behind_held_records_is_still_found(one_partition: Line) -> None:
    """Halving the batch is not stopped by held records in front: the poisonous one goes, everything else is taken."""
    line, handler = one_partition, UpTo()
    flows(line, *range(20))
    labels(line, "4", "bad", "19")
    line.drain([consumer(line, handler)])
    assert sorted(set(handler.taken)) == list(range(20))
    assert line.sql("select event_id from dead_letters.letters") == [("bad",)]
    assert (position(line, "flows.bound"), position(line, "labels")) == (20, 3)
