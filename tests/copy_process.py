"""One copy of a worker as a process of its own, to be stopped and thawed: `python -m tests.copy_process DSN RUN_DIR COPY`.

It turns the real loop over a real consumer whose handler notes each record under the copy's name and sends it on. While the
file RUN_DIR/COPY.slow exists a batch takes a while between its statements, so that it can be stopped in a transaction.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import structlog

from fraud_daemons.bus.port import Record
from fraud_daemons.clock import SystemClock
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.loop import Limits, Loop
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.workers.case_labels.label_store import WORKER
from tests.line import Line

INPUT, OUTPUT = "case_events", "labels"
BATCH_RECORDS = 5
PAUSE_SECONDS = 0.3


class Noting(StatelessHandler):
    """A row and an outgoing record per record."""

    def __init__(self, run_dir: Path, copy: str) -> None:
        self._slow, self._within = run_dir / f"{copy}.slow", run_dir / f"{copy}.within"
        self._copy = copy

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        for record in records:
            unit.connection.execute("insert into public.done values (%s, %s)", (self._copy, record.event_id))
            unit.publish(
                OUTPUT, key=record.key, event_id=record.event_id, platform_run_id=record.platform_run_id, body=b"{}"
            )
        if self._slow.exists():
            self._within.touch()
            SystemClock().wait(PAUSE_SECONDS, threading.Event())


def main() -> int:
    dsn, folder, copy = sys.argv[1:]
    run_dir, clock = Path(folder), SystemClock()

    def no_store() -> NoReturn:
        raise AssertionError("this worker writes no evidence")

    line = Line(dsn, run_dir=run_dir, make_store=no_store)
    context = line.context_for(WORKER, settings={"loop.batch_records_max": BATCH_RECORDS})
    context = replace(context, clock=clock)
    context.stop.listen()
    me = identity_of(os.getpid())
    assert me
    beat = HeartbeatFile(run_dir / f"{copy}.json", worker=copy, pack="test", process=me, clock=clock, version="test")
    loop = Loop(
        [context.consumer(Noting(run_dir, copy), topics=(INPUT,))], beat=beat, stop=context.stop, clock=clock,
        log=structlog.get_logger(copy), limits=Limits(),
    )  # fmt: skip
    return int(loop.run())


if __name__ == "__main__":
    raise SystemExit(main())
