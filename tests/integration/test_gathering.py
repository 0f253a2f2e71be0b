"""Workers for which no decision waits let records gather; the others are woken by every notification."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fraud_daemons.bus.port import Record
from fraud_daemons.runtime.consumer import Consumer, StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker
from fraud_daemons.workers.decision_lane import decision_fabric, decision_log_audit
from tests.line import RUN, Line


class Counts(StatelessHandler):
    """Remembers how large its batches were."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        self.batches.append(len(records))


class Takes(Counts):
    """A handler that takes its time."""

    def __init__(self, line: Line, seconds: float) -> None:
        super().__init__()
        self._line, self._seconds = line, seconds

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        self._line.clock.advance(self._seconds)
        super().handle(records, unit)


def reader_of(line: Line, worker: Worker, handler: Counts) -> Consumer:
    return line.context_for(worker, settings={"bus.gather_seconds": 0.3}).consumer(handler, topics=("decisions",))


def decisions(line: Line, count: int) -> None:
    line.append("decisions", [{"decision_id": str(n), "platform_run_id": RUN} for n in range(count)])


@pytest.mark.parametrize(
    ("worker", "gathers"), [(decision_log_audit.WORKER, True), (decision_fabric.WORKER, False)]
)  # fmt: skip
def test_only_who_gathers_sleeps_through_notifications(line: Line, worker: Worker, gathers: bool) -> None:
    """After a batch that was not full: for as long as it gathers nothing wakes it, afterwards everything does."""
    handler = Counts()
    reader = reader_of(line, worker, handler)
    reader.step()  # the claim
    assert reader.step().records == 0
    assert reader.wake_files(), "who found nothing is woken"
    decisions(line, 3)
    rest = reader.step().rest_seconds
    assert handler.batches == [3]
    assert (rest >= 0.3) is gathers
    assert (reader.wake_files() == []) is gathers
    line.clock.advance(rest + 0.001)
    assert reader.wake_files(), "the time to gather is over"


def test_a_full_batch_is_followed_by_the_next_at_once(line: Line) -> None:
    """A backlog is not slowed down: gathering is for batches that were not full."""
    handler = Counts()
    settings = {"bus.gather_seconds": 0.3, "loop.batch_records_max": 5}
    reader = line.context_for(decision_log_audit.WORKER, settings=settings).consumer(handler, topics=("decisions",))
    decisions(line, 12)
    reader.step()
    rests = [reader.step().rest_seconds for _ in range(3)]
    assert handler.batches == [5, 5, 2]
    assert rests[:2] == [0.0, 0.0]
    assert rests[2] >= 0.3


@pytest.mark.parametrize(("took", "rests"), [(0.004, False), (0.04, True), (3.0, True)])
def test_a_reader_whose_batch_took_long_lets_records_gather(line: Line, took: float, *, rests: bool) -> None:
    """Steps are long where the machine is busy. There nothing wakes a reader for half as long again, and never for long."""
    reader = reader_of(line, decision_fabric.WORKER, Takes(line, took))
    reader.step()  # the claim
    reader.step()
    decisions(line, 3)
    rest = reader.step().rest_seconds
    assert (reader.wake_files() == []) is rests
    assert rest == pytest.approx(min(1.5 * took, 0.1) if rests else 0.02)
