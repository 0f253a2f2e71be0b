"""Reads what the tables say, under a deadline so short that a frozen database cannot keep the status from being drawn.

How far topics and stages are: once a second while a page is open. Runs, reports, posture, decisions, cases and labels:
every few seconds. For a scraper alone, as often as it asks; when nobody looks, never.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fraud_daemons.clock import Clock, iso
from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN, PLATFORM_DSN
from fraud_daemons.console.board import Board
from fraud_daemons.console.status import RATE_WINDOW_SECONDS
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.database import Database, DatabaseOf, connections
from fraud_daemons.state import overview, postures, runs
from fraud_daemons.state.every_server import every_server

FLOW_SECONDS: Final = 1.0
LEDGERS_SECONDS: Final = 5.0
SCRAPED_SECONDS: Final = 10.0
REST_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 0.8
RUNS_SHOWN_MAX: Final = 8


class TablesWatch(PlainActivity):
    """Puts `flow` (topics, rates, lags) and `ledgers` (posture, runs, reports, decisions, cases, labels) on the board."""

    name = "tables"

    def __init__(self, board: Board, database_of: DatabaseOf, *, clock: Clock, posture_pin: str) -> None:
        self._board = board
        self._database_of = partial(_impatient, database_of)
        self._clock = clock
        self._posture_pin = posture_pin
        self._heads: deque[tuple[float, dict[str, int]]] = deque(maxlen=16)
        self._flow_at = self._ledgers_at = float("-inf")

    def forget(self) -> None:
        """Rates begin anew: what passed while nobody looked, or while nobody answered, was no rate."""
        self._heads.clear()
        self._flow_at = float("-inf")
        self._board.put(flow=None)

    def step(self) -> Outcome:
        self._board.slept()
        now = self._clock.monotonic()
        if not self._board.asked_lately:
            self.forget()
            return Outcome(rest_seconds=REST_SECONDS)
        scraped_only = self._board.pages == 0
        if not scraped_only and now - self._flow_at > SCRAPED_SECONDS / 2:
            self.forget()  # the first page after a scraper: rates over its long pauses are not what a page shows
        if now - self._flow_at < (SCRAPED_SECONDS if scraped_only else FLOW_SECONDS) - 0.05:
            return Outcome(rest_seconds=REST_SECONDS / 4)
        try:
            with connections(self._database_of) as at:
                for connection in every_server(at):  # whatever the role may do elsewhere, here nothing is written
                    connection.execute("set transaction read only")
                self._read_flow(at, now)
                if now - self._ledgers_at >= (SCRAPED_SECONDS if scraped_only else LEDGERS_SECONDS) - 0.05:
                    self._read_ledgers(at)
                    self._ledgers_at = now
        except TransientFault as fault:
            self._board.put(tables_problem=fault.reason)
            raise
        self._board.put(tables_problem=None, tables_at=iso(self._clock.now()))
        self._flow_at = now
        return Outcome(records=1, rest_seconds=FLOW_SECONDS)

    def wake_files(self) -> list[int]:
        return [self._board.wake_file()]

    def _read_flow(self, at: ConnectionOf, now: float) -> None:
        lags = overview.stage_lags(at)
        heads = overview.heads(at(EVENT_BUS_DSN))
        self._heads.append((now, heads))
        while len(self._heads) > 2 and now - self._heads[1][0] >= RATE_WINDOW_SECONDS:
            self._heads.popleft()
        self._board.put(flow={"heads": heads, "rates": self._rates(), "lags": lags})

    def _rates(self) -> dict[str, float]:
        """Records a second per topic, over the last seconds; empty before there are two looks."""
        (began, first), (ended, last) = self._heads[0], self._heads[-1]
        if ended <= began:
            return {}
        return {topic: round((count - first.get(topic, count)) / (ended - began), 1) for topic, count in last.items()}

    def _read_ledgers(self, at: ConnectionOf) -> None:
        platform = at(PLATFORM_DSN)
        newest = runs.newest(platform, limit=RUNS_SHOWN_MAX)
        run = newest[0].platform_run_id if newest else ""
        ledgers: dict[str, Any] = {
            "platform_run_id": run,
            "posture": self._posture(at),
            "runs": [{**vars(each), "started_at": iso(each.started_at)} for each in newest],
            "reports": [{**each, "reported_at": iso(each["reported_at"])} for each in overview.reports(platform)],
            "decisions": overview.decisions(at("DF_REPLAY_DSN"), run),
            "cases": overview.cases(at("CASE_MGMT_LOCATOR"), run),
            "labels": overview.labels(at("LABEL_STORE_LOCATOR"), run),
            "duplicates": overview.duplicates(at(IG_ADMISSION_DSN)),
        }
        self._board.put(ledgers=ledgers)

    def _posture(self, at: ConnectionOf) -> dict[str, Any]:
        """The posture in force, why, since when and by whom: the profile's pin, an operator's, else the ladder's step."""
        if self._posture_pin:
            return {"mode": self._posture_pin, "reason": "pinned by the profile", "by": "profile", "since": None}
        pin = next(postures.pins(at(PLATFORM_DSN), limit=1), None)
        if pin is not None and pin.mode != postures.RELEASED:
            return {"mode": pin.mode, "reason": pin.reason, "by": pin.pinned_by, "since": iso(pin.pinned_at)}
        step = postures.ladder(at("DL_POSTURE_DSN"))
        if step is None:
            return {"mode": "NORMAL", "reason": "nothing was wrong yet", "by": "degrade_ladder", "since": None}
        posture, reason, since = step
        return {"mode": str(posture.mode), "reason": reason, "by": "degrade_ladder", "since": iso(since)}


def _impatient(database_of: DatabaseOf, name: str) -> Database:
    database = database_of(name)
    options = replace(
        database.options,
        connect_timeout=ANSWER_SECONDS,
        statement_timeout=ANSWER_SECONDS,
        client_deadline=ANSWER_SECONDS * 1.5,
    )
    return replace(database, options=options)
