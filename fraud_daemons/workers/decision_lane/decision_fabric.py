"""Decides every bound flow exactly once, from its features where the posture allows them and without where it does not.

The topics `flows.bound` and `flows.featured` hold the same flows in the same order per partition. While the posture
allows features the featured records lead, and the position on `flows.bound` follows what was decided; a bound record
that the feature plane set aside shows as a gap in the bound positions and is decided without features, from the bus.
While the posture forbids features both are read: whichever record of a flow comes first is decided without features, and
the later one meets the same derived id. So it does not matter which record comes when the posture changes: the first
one decides, every other is kept as late, repeated or conflicting, and is never acted on.

A gap at the very end of a topic shows in the feature plane's dead letters, where an idle step looks.

A policy that reads a label, or that cannot be read, decides nothing: then the built-in stand-in does, under FAIL_CLOSED,
until a good one is there. An activation counts from the next batch on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from fraud_daemons.bus.port import Record, TopicPartition
from fraud_daemons.domain.decisions import ABSENT, BROKEN, Decided, decide, flow_of, published
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.domain.policy import Policy
from fraud_daemons.domain.posture import Mode, Posture, allows_features, allows_graph
from fraud_daemons.errors import PoisonFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.database import Beside
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import decisions, graph, postures
from fraud_daemons.state.decisions import Earlier, FlowKey, NewDecision
from fraud_daemons.workers.decision_lane._active_policy import ActivePolicy

BOUND, FEATURED = "flows.bound", "flows.featured"
GAP_RECORDS_MAX: Final = 2000
"""Bound records of one partition looked through for gaps in one batch; what is beyond waits for the next."""
POLICIES_REMEMBERED_MAX: Final = 10_000
"""(run, policy) pairs known as published; beyond, the table is asked again."""

ReadBound = Callable[[Connection, Mapping[TopicPartition, int], int], list[Record]]
"""(connection, positions, limit per partition) -> records of flows.bound."""


class DecisionFabric:
    """The handler. `choose` runs first in every step and reads the posture that the step decides under."""

    def __init__(
        self, policies: ActivePolicy, *, pinned: Posture | None, read_bound: ReadBound, beside: Beside
    ) -> None:
        self._policies = policies
        self._pinned = pinned
        self._read_bound = read_bound
        self._beside = beside
        self._posture: Posture | None = None
        self._graph_versions: dict[str, int] = {}
        self._published_policies: set[tuple[str, str]] = set()

    def choose(self, connection: Connection) -> Sequence[str]:
        """The topics that may be decided from now: policy and posture are read inside the batch's own transaction."""
        self._posture = self._in_force(connection)
        return (FEATURED,) if allows_features(self._posture.mode) else (BOUND, FEATURED)

    def forget(self) -> None:
        self._posture = None
        self._published_policies.clear()

    def detail(self) -> dict[str, Any]:
        """For the heartbeat: which policy it decides by, or its stand-in."""
        return {"policy": self._policy.identity()}

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        posture = self._posture or self._in_force(unit.connection)
        flows = [_parsed(record) for record in records]
        self._graph_versions = self._versions(records, posture, unit)
        if not records:
            with self._beside(unit.connection) as at:
                waiting = [Record(*row) for row in decisions.set_aside(at, limit=GAP_RECORDS_MAX)]
            candidates = list(self._whole(waiting, unit, posture))
        elif allows_features(posture.mode) and records[0].topic == FEATURED:
            candidates = self._with_gaps(records, flows, unit, posture)
        else:
            candidates = [
                self._decide(record, flow, unit, posture) for record, flow in zip(records, flows, strict=True)
            ]
        first: dict[FlowKey, NewDecision] = {}
        for candidate, _ in candidates:
            first.setdefault(candidate.key, candidate)
        new = decisions.insert(unit.connection, list(first.values()), policy=self._policy, posture=posture, at=unit.now)
        self._publish_policy({key.platform_run_id for key in new}, unit)
        met = []
        for candidate, decided in candidates:
            if candidate.key in new and first[candidate.key] is candidate:
                _publish(candidate, decided, unit)
            else:
                met.append(candidate)
        if met:
            self._keep(met, unit, posture)

    def _versions(self, records: Sequence[Record], posture: Posture, unit: UnitOfWork) -> dict[str, int]:
        """The entity graph's version per run of the batch; none where the posture forbids the graph."""
        if not records or not allows_graph(posture.mode):
            return {}
        with self._beside(unit.connection) as at:
            return graph.versions(at("IEG_PROJECTION_DSN"), list({record.platform_run_id for record in records}))

    def _in_force(self, connection: Connection) -> Posture:
        """The pin, else what the ladder says; FAIL_CLOSED in any case while no policy can be read."""
        with self._beside(connection) as at:
            self._policies.refresh(at)
            posture = self._pinned or postures.in_force(at)
        if self._policies.is_stand_in and posture.mode is not Mode.FAIL_CLOSED:
            return Posture(Mode.FAIL_CLOSED, 0)
        return posture

    def _publish_policy(self, runs: set[str], unit: UnitOfWork) -> None:
        """The policy itself goes out with the first decision of a run that was made by it, once: so that the archive of
        the run holds all that its decisions can be recomputed from."""
        policy = self._policy
        unpublished = sorted(run for run in runs if (run, policy.digest) not in self._published_policies)
        if len(self._published_policies) > POLICIES_REMEMBERED_MAX:
            self._published_policies.clear()
        for run in decisions.first_decided_by(unit.connection, unpublished, digest=policy.digest, at=unit.now):
            event_id = derived_id("policy", run, policy.digest)
            body = {"platform_run_id": run, **policy.identity(), "table": policy.table}
            unit.publish("policies", key=policy.digest, event_id=event_id, platform_run_id=run, body=body)
        self._published_policies.update((run, policy.digest) for run in unpublished)

    @property
    def _policy(self) -> Policy:
        return self._policies.policy

    def _decide(
        self, record: Record, flow: Mapping[str, Any], unit: UnitOfWork, posture: Posture
    ) -> tuple[NewDecision, Decided]:
        """The decision as it would be stored and published. Raises PoisonFault when the record lacks what it needs."""
        try:
            decided = decide(flow, self._policy, posture)
            decision = published(
                decided,
                flow,
                decided_from=(record.topic, record.partition, record.position),
                graph_version=self._graph_versions.get(record.platform_run_id),
                decided_at=unit.now_text,
            )
            return NewDecision(decision, orjson.dumps(decision), record, flow.get("snapshot_hash")), decided
        except BROKEN as error:
            raise _poison(record, error) from error

    def _with_gaps(
        self, records: Sequence[Record], flows: Sequence[Mapping[str, Any]], unit: UnitOfWork, posture: Posture
    ) -> list[tuple[NewDecision, Decided]]:
        """Featured records with the bound records that never got features in their places; the bound position follows."""
        before = self._gaps(records, flows, unit)
        candidates: list[tuple[NewDecision, Decided]] = []
        for index, (record, flow) in enumerate(zip(records, flows, strict=True)):
            candidates += self._whole(before.get(index, ()), unit, posture)
            candidates.append(self._decide(record, flow, unit, posture))
        return candidates

    def _whole(
        self, bounds: Iterable[Record], unit: UnitOfWork, posture: Posture
    ) -> Iterator[tuple[NewDecision, Decided]]:
        """Those bound records that can be decided; what stopped the feature plane may well stop us: that one is set aside."""
        for bound in bounds:
            try:
                yield self._decide(bound, _parsed(bound), unit, posture)
            except PoisonFault as fault:
                unit.dead_letter(bound, reason=fault.reason, detail=str(fault))

    def _gaps(
        self, records: Sequence[Record], flows: Sequence[Mapping[str, Any]], unit: UnitOfWork
    ) -> dict[int, list[Record]]:
        """Index of a featured record -> the bound records before it that were passed over."""
        follow = {where: at for where, at in unit.positions.items() if where.topic == BOUND}
        owner: dict[TopicPartition, dict[int, int]] = {}
        for index, (record, flow) in enumerate(zip(records, flows, strict=True)):
            where, position = _bound_place(record, flow)
            expected = follow.get(where, position)
            for missing in range(expected, min(position, unit.positions.get(where, 0) + GAP_RECORDS_MAX)):
                owner.setdefault(where, {})[missing] = index
            follow[where] = max(expected, position + 1)
        for where, position in follow.items():
            looked_through = unit.positions.get(where, 0) + GAP_RECORDS_MAX
            beyond = where in owner and position > looked_through
            unit.skip_to(BOUND, where.partition, looked_through if beyond else position)
        return self._passed_over(owner, unit) if owner else {}

    def _passed_over(
        self, owner: Mapping[TopicPartition, Mapping[int, int]], unit: UnitOfWork
    ) -> dict[int, list[Record]]:
        starts = {where: min(missing) for where, missing in owner.items()}
        span = max(max(missing) - min(missing) + 1 for missing in owner.values())
        found: dict[int, list[Record]] = {}
        for bound in self._read_bound(unit.connection, starts, span):
            index = owner[TopicPartition(bound.topic, bound.partition)].get(bound.position)
            if index is not None:
                found.setdefault(index, []).append(bound)
        return found

    def _keep(self, met: Sequence[NewDecision], unit: UnitOfWork, posture: Posture) -> None:
        """Records of flows that were already decided: late vectors, conflicts, repeats. None is acted on."""
        stored = decisions.earlier(unit.connection, (candidate.key for candidate in met))
        late, conflicts, repeats = [], [], []
        for candidate in met:
            match self._verdict(candidate, stored[candidate.key], posture):
                case "late":
                    late.append(candidate)
                case "conflict":
                    conflicts.append(candidate)
                case _:
                    repeats.append(candidate)
        if late:
            decisions.keep_late_features(unit.connection, late, at=unit.now)
        if conflicts:
            decisions.keep_conflicts(unit.connection, conflicts, at=unit.now)
        if repeats:
            decisions.count_repeats(unit.connection, repeats)

    def _verdict(self, candidate: NewDecision, stored: Earlier, posture: Posture) -> str:
        record = candidate.made_from
        if stored.decided_from == (record.topic, record.partition, record.position):
            return "repeat"
        if record.topic == FEATURED and stored.feature_status == ABSENT:
            return "late"
        comparable = (stored.policy_digest, stored.posture_mode, stored.feature_status) == (
            self._policy.digest,
            posture.mode,
            candidate.decision["feature_status"],
        )
        # under another policy or posture equal records give other digests, so only like is compared with like
        return "conflict" if comparable and stored.core_digest != candidate.decision["core_digest"] else "repeat"


def _parsed(record: Record) -> dict[str, Any]:
    """The flow of a record. Raises PoisonFault when it breaks its contract."""
    try:
        return flow_of(bytes(record.body))
    except BROKEN as error:
        raise _poison(record, error) from error


def _bound_place(record: Record, flow: Mapping[str, Any]) -> tuple[TopicPartition, int]:
    try:
        partition, position = flow["bound_position"]
        return TopicPartition(BOUND, int(partition)), int(position)
    except BROKEN as error:
        raise _poison(record, error) from error


def _poison(record: Record, error: Exception) -> PoisonFault:
    what = f"{type(error).__name__}: {str(error)[:200]}"
    return PoisonFault(f"{record.topic} {record.partition}/{record.position}: {what}", reason=f"{record.topic}: {what}")


def _publish(new: NewDecision, decided: Decided, unit: UnitOfWork) -> None:
    key, run = new.made_from.key, new.key.platform_run_id
    unit.publish("decisions", key=key, event_id=new.decision["decision_id"], platform_run_id=run, body=new.body)
    requested_at = unit.now_text
    for intent in decided.intents:
        unit.publish(
            "action_intents",
            key=key,
            event_id=intent["intent_id"],
            platform_run_id=run,
            body={**intent, "requested_at": requested_at},
        )


def _bound_reader(context: WorkerContext) -> ReadBound:
    def read(connection: Connection, positions: Mapping[TopicPartition, int], limit: int) -> list[Record]:
        if context.same_server:
            return context.bus.log(connection).read(positions, limit=limit)
        with context.bus.transaction() as log:
            return log.read(positions, limit=limit)

    return read


def _posture_pin(context: WorkerContext) -> Posture | None:
    mode = context.profile.get("decision.posture_pin")
    return Posture(Mode(mode), 0) if mode else None


def build(context: WorkerContext) -> list[Activity]:
    """One consumer. It starts without a readable policy too, and then decides by the stand-in under FAIL_CLOSED."""
    get, root = context.profile.get, context.profile.root
    policies = ActivePolicy(root, get("decision.policy"), clock=context.clock, log=context.log)
    fabric = DecisionFabric(
        policies, pinned=_posture_pin(context), read_bound=_bound_reader(context), beside=context.beside
    )
    return [context.consumer(fabric, topics=WORKER.consumes, choose=fabric.choose, wants_idle=True)]


WORKER = Worker(
    name="decision_fabric",
    schema="df",
    dsn="DF_REPLAY_DSN",
    build=build,
    keeps_plans=True,
    consumes=(FEATURED, BOUND),
    publishes=("decisions", "policies", "action_intents"),
    equations=("admitted_traffic_equals_decided", "decided_equals_published", "deciding_policies_equal_published"),
)
