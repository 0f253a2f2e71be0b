"""Chooses the posture: looks at the stages and stores that a decision needs, and steps down when one is silent.

    features   online_feature_plane has records of flows.bound before it and takes none
    graph      identity_entity_graph likewise; a worker that no pack names is absent by configuration, not ill
    store      the object store gives no answer
    policy     the policy in force cannot be read, or is broken

Down at once, up after a quiet period, one row of dl.postures per change. Looks at positions, never at event time, and
asks every other server under a deadline of its own, so that a frozen one is a signal and does not freeze the ladder.
An operator's pin counts before what stands here; the ladder goes on looking meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fraud_daemons.config.packs import load_packs
from fraud_daemons.domain.ladder import FEATURES, GRAPH, POLICY, STORE, Ladder, Look, Progress, Rule, stalled
from fraud_daemons.domain.posture import Mode
from fraud_daemons.errors import TransientFault
from fraud_daemons.observability import events
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity, Outcome, PlainActivity
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import postures
from fraud_daemons.state.stage_positions import positions_of
from fraud_daemons.workers.decision_lane._active_policy import PolicyProbe
from fraud_daemons.workers.decision_lane._store_probe import StoreProbe, endpoint_of

BOUND: Final = "flows.bound"
FOLLOWED: Final[Mapping[str, tuple[str, str]]] = {
    FEATURES: ("online_feature_plane", "OFP_PROJECTION_DSN"),
    GRAPH: ("identity_entity_graph", "IEG_PROJECTION_DSN"),
}
"""Signal -> the worker whose progress on flows.bound it is, and the DSN name under which its checkpoints stand."""

Positions = dict[tuple[str, int], int]
"""(topic, partition) -> position."""

ASK_SECONDS: Final = 0.8
"""How long another server may take to answer before its stage counts as silent."""


class DegradeLadder(PlainActivity):
    """Looks once per step and writes at most one row."""

    name = "degrade_ladder"

    def __init__(self, context: WorkerContext, *, follow: Sequence[str], probe: Callable[[], str | None]) -> None:
        get = context.profile.get
        patience = {
            FEATURES: get("ladder.stall_seconds"),
            GRAPH: get("ladder.stall_seconds"),
            STORE: get("ladder.store_seconds"),
            POLICY: get("ladder.policy_seconds"),
        }
        self._rules = {s: Rule(Mode(get(f"ladder.{s}_rung")), seconds) for s, seconds in patience.items()}
        self._quiet_seconds = get("ladder.quiet_seconds")
        self._interval = get("ladder.interval_seconds")
        self._context = context
        self._follow = tuple(follow)
        self._probe = probe
        self._policy_problem = PolicyProbe(context.profile.root, get("decision.policy"))
        self.forget()

    def forget(self) -> None:
        """What was seen is seen again; the rung in force stands in the table."""
        self._ladder = Ladder(self._rules, quiet_seconds=self._quiet_seconds)
        self._before: dict[str, Progress] = {}
        self._looked_at: float | None = None

    def step(self) -> Outcome:
        clock = self._context.clock
        now = clock.monotonic()
        elapsed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        elsewhere = {signal: self._elsewhere(signal) for signal in self._follow if not self._is_here(signal)}
        with self._context.database.scope() as connection:
            looks = [self._stage(connection, signal, elsewhere) for signal in self._follow]
            looks += [self._store(), self._policy(connection)]
            newest = postures.ladder(connection)
            current = Mode.NORMAL if newest is None else newest[0].mode
            step = self._ladder.observe(elapsed, looks, current)
            sequence = postures.step(connection, step, at=clock.now()) if step else 0
        if step:
            self._context.log.warning(
                events.POSTURE_STEPPED, mode=str(step.mode), sequence=sequence, reason=step.reason, signals=step.signals
            )
        return Outcome(records=1 if step else 0, rest_seconds=self._interval)

    # --- one look each
    def _stage(self, connection: Connection, signal: str, elsewhere: Mapping[str, Positions | None]) -> Look:
        worker, _ = FOLLOWED[signal]
        at = elsewhere[signal] if signal in elsewhere else positions_of(connection, worker)
        if at is None:
            return Look(signal, bad=True, detail=f"the server of {worker} gives no answer")
        # heads after positions: what is published meanwhile may show as waiting, never as passed
        heads = self._heads(connection)
        done = {where: min(at.get(where, 0), head) for where, head in heads.items()}
        progress = Progress(sum(done.values()), sum(heads.values()) - sum(done.values()))
        bad = stalled(self._before.get(signal), progress)
        self._before[signal] = progress
        if bad:
            return Look(signal, bad=True, detail=f"{progress.waiting} records wait and {worker} takes none")
        return Look(signal, bad=False, detail=f"{worker} has {progress.waiting} records before it")

    def _store(self) -> Look:
        problem = self._probe()
        return Look(STORE, bad=problem is not None, detail=problem or "the object store answers")

    def _policy(self, connection: Connection) -> Look:
        with self._context.beside(connection) as at:
            problem = self._policy_problem(at)
        return Look(POLICY, bad=problem is not None, detail=problem or "the policy in force can be read")

    # --- where things stand
    def _is_here(self, signal: str) -> bool:
        return self._database(signal).source.name == self._context.database.source.name

    def _database(self, signal: str) -> Database:
        return self._context.database_of(FOLLOWED[signal][1])

    def _elsewhere(self, signal: str) -> Positions | None:
        database = self._database(signal)
        options = replace(
            database.options, connect_timeout=ASK_SECONDS, statement_timeout=ASK_SECONDS, client_deadline=ASK_SECONDS
        )
        try:
            with replace(database, options=options).scope() as connection:
                return positions_of(connection, FOLLOWED[signal][0])
        except TransientFault:
            return None

    def _heads(self, connection: Connection) -> Positions:
        if self._context.same_server:
            heads = self._context.bus.log(connection).heads([BOUND])
        else:
            with self._context.bus.transaction() as log:
                heads = log.heads([BOUND])
        return {(where.topic, where.partition): position for where, position in heads.items()}


def build(context: WorkerContext) -> list[Activity]:
    """One look after the other."""
    profile = context.profile
    present = {name for pack in load_packs(profile.root, enabled=profile.get("profile.packs")) for name in pack.workers}
    follow = [signal for signal, (worker, _) in FOLLOWED.items() if worker in present]
    probe = StoreProbe(endpoint_of(context), clock=context.clock)
    return [DegradeLadder(context, follow=follow, probe=probe)]


WORKER = Worker(
    name="degrade_ladder",
    schema="dl",
    dsn="DL_POSTURE_DSN",
    build=build,
    equations=("decided_under_known_postures",),
)
