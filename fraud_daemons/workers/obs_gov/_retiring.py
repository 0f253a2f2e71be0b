"""Decides which runs are retired: ended long ago, proved whole by their last report, and nobody still at work on them.

What flows for other runs has no say in it. A run that fails one of these keeps its state and is named in the heartbeat. Where
nobody asked for a report it is asked for here, by then and not before: labels come for weeks. The deed is a governance event.
Who owns state deletes it afterwards (`runtime.retiring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from fraud_daemons.clock import iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import OverloadFault, TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.database import connections
from fraud_daemons.runtime.worker import WorkerContext
from fraud_daemons.state import governance, progress, reports, retiring
from fraud_daemons.state.progress import Behind
from fraud_daemons.state.retiring import Candidate

LOOK_SECONDS: Final = 600.0
CANDIDATES_MAX: Final = 20
"""Read at once. A round goes on behind them until no run is left, so that those that keep their state hide nobody."""
TOLD_MAX: Final = 20
"""Runs named in the heartbeat, the oldest; the others are counted."""
STAGES_TOLD_MAX: Final = 3
BEING_MADE: Final = "a report about it is being made"


class Retiring(PlainActivity):
    """At most one run a step is looked at in the stores; a round over all that are old enough, then a rest."""

    name = "retiring"

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._age = timedelta(days=context.profile.get("trim.run_age_days"))
        self._after: str | None = None
        """Where the round is."""
        self._keeping: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        """Of the last whole round."""

    def step(self) -> Outcome:
        if not self._age:
            return Outcome(rest_seconds=LOOK_SECONDS)
        try:
            return self._step()
        except TransientFault:  # reports say so themselves; giving up old state can wait
            self.forget()
            return Outcome(rest_seconds=LOOK_SECONDS)

    def forget(self) -> None:
        self._after, self._keeping = None, {}

    def detail(self) -> dict[str, Any]:
        """For the heartbeat: runs that are old enough and keep their state, and why."""
        told = {"runs_not_retired": dict(islice(self._kept.items(), TOLD_MAX))} if self._kept else {}
        more = len(self._kept) - TOLD_MAX
        return {**told, "runs_not_retired_more": more} if more > 0 else told

    def _step(self) -> Outcome:
        found = self._candidates()
        for run in found:
            self._after = run.platform_run_id
            why_not = _not_proved(run)
            if why_not is not None:
                self._keeping[run.platform_run_id] = why_not
                continue
            why_not = self._looked_at(run)
            if why_not is None:
                return Outcome(records=1)
            self._keeping[run.platform_run_id] = why_not
            return Outcome()
        if len(found) == CANDIDATES_MAX:
            return Outcome()
        self._kept = self._keeping
        self.forget()
        return Outcome(rest_seconds=LOOK_SECONDS)

    def _candidates(self) -> list[Candidate]:
        ended_before = self._context.clock.now() - self._age
        with self._context.database.scope() as connection:
            return retiring.candidates(connection, ended_before=ended_before, limit=CANDIDATES_MAX, after=self._after)

    def _looked_at(self, run: Candidate) -> str | None:
        """None when it was retired; or why its state must stay, by what the stores say now."""
        try:
            if run.verdict is None:
                return self._nothing_admitted(run) or self._under_way(run) or self._ask_for_report(run)
            return self._under_way(run) or self._retire_what_rests(run)
        except OverloadFault as fault:
            return f"it could not be looked at: {fault.reason}"

    def _nothing_admitted(self, run: Candidate) -> str | None:
        """A report about nothing says FAIL: nobody is to be alarmed by one that he has not asked for."""
        with connections(self._context.long_database_of) as at:
            return None if retiring.came_after(at, run.platform_run_id, ()) else "nothing was admitted for it"

    def _ask_for_report(self, run: Candidate) -> str:
        """Have the report made that nobody asked for, once and one run at a time; it is read in a later round."""
        name = run.platform_run_id
        request_id = derived_id("report", name, self.name)
        with self._context.database.scope() as connection:
            if reports.conflict_key(connection, platform_run_id=name, request_id=request_id):
                return f"no report says that it is whole; platform report --run {name}"
            if reports.next_request(connection) is not None:
                return "no report says that it is whole; one is made in its turn"
            reports.take_in(connection, [(name, request_id, iso(self._context.clock.now()))])
        return BEING_MADE

    def _under_way(self, run: Candidate) -> str | None:
        with connections(self._context.long_database_of) as at:
            return _told(progress.behind_on(at, run.platform_run_id))

    def _retire_what_rests(self, run: Candidate) -> str | None:
        """Under the run's lock: a redrive is ordered before it and met here, or after it and refused."""
        name, now = run.platform_run_id, self._context.clock.now()
        with connections(self._context.long_database_of) as at:
            platform = at(PLATFORM_DSN)
            retiring.decide_alone(platform, name)
            why_not = _told(progress.redrives(at, name)) or _came_later(at, run)
            if why_not is None:
                retiring.retire(platform, name, report_key=run.report_key or "", at=now)
                governance.record(
                    platform, governance.Kind.RUN_RETIRED, subject=name, by="run_reporter", at=now, platform_run_id=name,
                    detail={"report": run.report_key},
                )  # fmt: skip
        return why_not


def _told(behind: Sequence[Behind]) -> str | None:
    more = f"; and {len(behind) - STAGES_TOLD_MAX} more" if len(behind) > STAGES_TOLD_MAX else ""
    return "; ".join(map(str, behind[:STAGES_TOLD_MAX])) + more if behind else None


def _came_later(at: ConnectionOf, run: Candidate) -> str | None:
    """What the report cannot know. Asked when nothing was under way: what came before that is archived, and met here."""
    name, what = run.platform_run_id, None
    redriven = retiring.last_redrive(at, name)
    if redriven is not None and run.reported_at is not None and redriven > run.reported_at:
        what = "a letter was redriven"
    elif retiring.came_after(at, name, run.anchors or ()):
        what = "events came"
    return f"{what} after its newest report; platform report --run {name}" if what else None


def _not_proved(run: Candidate) -> str | None:
    """Why its newest report does not let it go; None as well where there is none yet."""
    ask = f"; platform report --run {run.platform_run_id}"
    if run.asked:
        return BEING_MADE
    if run.verdict is None:
        return None
    flowed = "" if run.caught_up else f", while its records flowed{ask}"
    return f"its newest report says {run.verdict}{flowed}" if run.verdict != "PASS" or flowed else None
