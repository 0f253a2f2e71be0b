"""Deletes a component's rows of retired runs, a batch a step: every worker that owns such tables has this activity.

It decides nothing: `control.retired_runs` says which runs. It begins a minute after that was written, when no process
takes the run for one any more. A batch that was cut off leaves rows, and those are deleted later.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import TransientFault
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.worker import WorkerContext
from fraud_daemons.state import retiring

GRACE: Final = timedelta(seconds=60)
"""Longer than anybody remembers a run without asking (the gate: 10 s) and than any request takes."""
LOOK_SECONDS: Final = 60.0
ROWS_AT_ONCE_MAX: Final = 2000
REST_PER_STEP: Final = 20.0
REST_AFTER_STEP_MAX_SECONDS: Final = 1.0
"""After a batch this many times as long as it took, but no longer: the worker's records, and the server, are for the run
that flows. Some ten owners together take half a processor, and each deletes 10,000 rows a second."""


class StateRetirer(PlainActivity):
    """One batch of one table a step."""

    def __init__(self, context: WorkerContext) -> None:
        self.name = f"{context.worker.name}.retire"
        self._context = context
        self._schema = context.worker.schema
        self._done: set[str] = set()
        self._work: Iterator[tuple[str, str]] = iter(())
        self._at: tuple[str, str] | None = None

    def step(self) -> Outcome:
        try:
            return self._step()
        except TransientFault:  # whoever works here says so itself; giving up old rows can wait
            self.forget()
            return Outcome(rest_seconds=LOOK_SECONDS)

    def forget(self) -> None:
        self._work, self._at = iter(()), None

    def _step(self) -> Outcome:
        self._at = self._at or next(self._work, None)
        if self._at is None and not self._look():
            return Outcome(rest_seconds=LOOK_SECONDS)
        if self._at is None:
            return Outcome()
        run, table = self._at
        began = self._context.clock.monotonic()
        with self._context.database.scope() as connection:
            gone = retiring.delete_some(connection, self._schema, table, run, limit=ROWS_AT_ONCE_MAX)
        if gone < ROWS_AT_ONCE_MAX:
            self._at = None
            if table == retiring.TABLES[self._schema][-1]:
                self._done.add(run)
        took = self._context.clock.monotonic() - began
        return Outcome(records=gone, rest_seconds=min(REST_AFTER_STEP_MAX_SECONDS, REST_PER_STEP * took))

    def _look(self) -> bool:
        """Whether there are runs whose rows have not been looked for by this process."""
        with self._context.database_of(PLATFORM_DSN).scope() as connection:
            runs = retiring.retired(connection, before=self._context.clock.now() - GRACE)
        todo = [run for run in runs if run not in self._done]
        self._work = iter([(run, table) for run in todo for table in retiring.TABLES[self._schema]])
        return bool(todo)


def retirers(context: WorkerContext) -> list[StateRetirer]:
    """The activity, for a worker that owns tables with rows of runs."""
    return [StateRetirer(context)] if context.worker.schema in retiring.TABLES else []
