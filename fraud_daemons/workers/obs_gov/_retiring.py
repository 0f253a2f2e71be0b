"""Decides which runs are retired: ended long ago, proved whole by their last report, and nobody still at work on them.

A run that fails one of these keeps its state and is named in the heartbeat. The deed is a governance event. Who owns
state deletes it afterwards (`runtime.retiring`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from fraud_daemons.config.dsns import IG_ADMISSION_DSN
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.worker import WorkerContext
from fraud_daemons.state import governance, progress, retiring
from fraud_daemons.state.retiring import Candidate

LOOK_SECONDS: Final = 600.0
CANDIDATES_MAX: Final = 20


class Retiring(PlainActivity):
    """At most one run a step."""

    name = "retiring"

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._age = timedelta(days=context.profile.get("trim.run_age_days"))
        self._kept: dict[str, str] = {}

    def step(self) -> Outcome:
        if not self._age:
            return Outcome(rest_seconds=LOOK_SECONDS)
        try:
            done = self._retire_one()
        except TransientFault:  # reports say so themselves; giving up old state can wait
            done = False
        return Outcome(records=int(done), rest_seconds=0.0 if done else LOOK_SECONDS)

    def detail(self) -> dict[str, Any]:
        """For the heartbeat: runs that are old enough and keep their state, and why."""
        return {"runs_not_retired": self._kept} if self._kept else {}

    def _retire_one(self) -> bool:
        now = self._context.clock.now()
        with self._context.database.scope() as connection:
            found = retiring.candidates(connection, ended_before=now - self._age, limit=CANDIDATES_MAX)
            flowing = bool(found) and self._flowing(connection)
        self._kept = {}
        for run in found:
            why_not = "records still flow" if flowing else self._why_not(run)
            if why_not is None:
                self._retire(run)
                return True
            self._kept[run.platform_run_id] = why_not
        return False

    def _why_not(self, run: Candidate) -> str | None:
        if run.verdict is None or run.reported_at is None:
            return f"no report says that it is whole; platform report --run {run.platform_run_id}"
        if run.verdict != "PASS" or not run.caught_up:
            return f"its newest report says {run.verdict}{'' if run.caught_up else ', while records flowed'}"
        with self._context.long_database_of(IG_ADMISSION_DSN).scope() as connection:
            last = retiring.last_admission(connection, run.platform_run_id)
        if last is not None and last > run.reported_at:
            return f"events came after its newest report; platform report --run {run.platform_run_id}"
        return None

    def _retire(self, run: Candidate) -> None:
        name, now = run.platform_run_id, self._context.clock.now()
        with self._context.database.scope() as connection:
            retiring.retire(connection, name, report_key=run.report_key or "", at=now)
            governance.record(
                connection, governance.Kind.RUN_RETIRED, subject=name, by="run_reporter", at=now, platform_run_id=name,
                detail={"report": run.report_key},
            )  # fmt: skip

    def _flowing(self, connection: Connection) -> bool:
        with self._context.beside(connection) as at:
            return any(stage.what not in self._context.worker.consumes for stage in progress.behind(at))
