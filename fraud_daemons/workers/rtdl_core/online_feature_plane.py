"""Adds to each bound flow its feature vector as of that flow: exact windows per card and per terminal, in event time.

A flow is given one vector, once: a repeat is absorbed, because its vector left in the same transaction in which its row
entered the snapshot index. Labels count from the time they were observed, and a flow waits for those observed before it
(`_labels`): the fraud share of a terminal is the same whatever was late, killed or repeated. Windows belong to a run; a run begins with empty ones unless it was warmed
(`state.features.warm`). Nothing here looks at a clock, and nothing is estimated. This worker is a single writer: two of
them could not agree on what came before.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.binding import routing_key
from fraud_daemons.domain.features import (
    SECOND_MICROSECONDS,
    feature_revision,
    microseconds,
    retention_microseconds,
    snapshot_hash,
    terminal_key,
    vector,
)
from fraud_daemons.domain.identity import payload_digest
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import features as store
from fraud_daemons.state.feature_labels import FlowPlace
from fraud_daemons.state.features import Counts, EntityEvent, EntityKey, FlowKey, Snapshot
from fraud_daemons.workers.rtdl_core._labels import LABELS, BusBeside, Labels
from fraud_daemons.workers.rtdl_core._windows import Windows

FEATURED: Final = "flows.featured"

AMOUNT_MINOR_MAX: Final = 10**12
"""As the schemas of the gate say; nine million of them are a sum within 64 bits."""

LOOK_EVERY_RECORDS: Final = 500
LOOKS: Final = 40
"""After so many records so many entities are looked at in turn, and those not seen within any window lose their rows.
With 15,000 entities that is once in 190,000 records."""


class _Bound(NamedTuple):
    """A bound record that is to get its vector."""

    record: Record
    body: dict[str, Any]
    flow: FlowKey
    payload_hash: bytes
    time: int
    card: EntityKey | None
    terminal: EntityKey | None
    key: int
    place: FlowPlace
    amount_minor: int

    @property
    def entities(self) -> tuple[EntityKey, ...]:
        return tuple(entity for entity in (self.card, self.terminal) if entity is not None)


class FeaturePlane:
    """The handler. Its windows stand for the last commit and are dropped after anything else."""

    def __init__(
        self, *, label_delay_days: int, lateness_seconds: int, cached_entries_max: int, bus_beside: BusBeside
    ) -> None:
        self._label_delay_days = label_delay_days
        self._revision = feature_revision(label_delay_days)
        self._lateness = lateness_seconds * SECOND_MICROSECONDS
        self._retention = retention_microseconds(label_delay_days=label_delay_days, lateness_seconds=lateness_seconds)
        self._windows = Windows(entries_max=cached_entries_max)
        self._labels = Labels(bus_beside)
        self._looked_to: dict[str, str] = {}
        self._since_look = 0

    def forget(self) -> None:
        self._looked_to.clear()
        self._windows.clear()
        self._labels.forget()

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        self._labels.take_in([record for record in records if record.topic == LABELS], unit, self._windows)
        bounds = self._read([record for record in records if record.topic != LABELS], unit)
        if bounds:
            self._feature(bounds, unit)
        self._windows.shrink(len(bounds))

    def _feature(self, bounds: Sequence[_Bound], unit: UnitOfWork) -> None:
        repeats: Counter[str] = Counter()
        new = self._new_flows(bounds, repeats, unit)
        self._load(new, unit)
        told = self._labels.place([bound.place for bound in new], unit)
        counted = self._already_counted(new, unit)
        tally = _Tally(store.newest(unit.connection, list({bound.flow[0] for bound in new})), self._lateness)
        events: list[EntityEvent] = []
        horizons: dict[EntityKey, int] = {}
        snapshots = []
        for bound in new:
            tally.see(bound, late=self._take_in(bound, counted, events, horizons))
            if bound.terminal and (changes := told.get(bound.flow)):
                self._windows.label(bound.terminal, (bound.time, bound.place.source_seq, bound.key), changes)
            snapshots.append(self._publish(bound, unit))
        store.put_events(unit.connection, events)
        store.prune(unit.connection, horizons)
        store.put_snapshots(unit.connection, snapshots)
        counts = tally.counts(repeats)
        store.add_counts(unit.connection, counts)
        self._expire({run: count.newest for run, count in counts.items()}, len(new), unit)

    def _expire(self, newest: dict[str, int], records: int, unit: UnitOfWork) -> None:
        """Let idle entities of these runs go, a few at a time; of those that are seen old rows go as they are seen."""
        self._since_look += records
        if self._since_look < LOOK_EVERY_RECORDS:
            return
        self._since_look = 0
        for run in newest:
            after = self._looked_to.get(run, "")
            horizon = newest[run] - self._retention
            after, idle = store.expire(unit.connection, run, after=after, looks=LOOKS, horizon=horizon)
            for entity in idle:
                self._windows.drop((run, entity))
            self._looked_to = {**{r: a for r, a in self._looked_to.items() if r in newest}, run: after}

    def _read(self, records: Sequence[Record], unit: UnitOfWork) -> list[_Bound]:
        """Bound records whose labels have come, the others are held back; one that breaks its contract is set aside
        here, where it is known which one."""
        bounds = []
        for record in records:
            if unit.holds(record):
                continue
            try:
                body = orjson.loads(record.body)
                time = microseconds(body["occurred_at"])
                if self._labels.must_wait(body, time, unit):
                    unit.hold(record)
                else:
                    bounds.append(_bound(record, body, time))
            except (ValueError, KeyError, TypeError) as error:
                unit.dead_letter(record, reason="breaks its contract", detail=f"{type(error).__name__}: {error}")
        return bounds

    def _new_flows(self, bounds: Sequence[_Bound], repeats: Counter[str], unit: UnitOfWork) -> list[_Bound]:
        """Flows without a vector yet. A repeat is counted, another record under a known id is kept as an anomaly."""
        known = store.known_flows(unit.connection, list({bound.flow for bound in bounds}))
        new, anomalies = [], []
        for bound in bounds:
            stored = known.setdefault(bound.flow, b"")
            if not stored:
                known[bound.flow] = bound.payload_hash
                new.append(bound)
            elif stored == bound.payload_hash:
                repeats[bound.flow[0]] += 1
            else:
                anomalies.append(_anomaly(bound, stored, unit))
        store.put_anomalies(unit.connection, anomalies)
        return new

    def _load(self, bounds: Iterable[_Bound], unit: UnitOfWork) -> None:
        """Have the window of every entity of these flows in memory."""
        wanted = dict.fromkeys(entity for bound in bounds for entity in bound.entities)
        missing = self._windows.missing(wanted)
        self._windows.hold(missing, store.load_windows(unit.connection, missing))
        self._labels.load(missing, unit, self._windows)

    def _already_counted(self, bounds: Iterable[_Bound], unit: UnitOfWork) -> set[EntityEvent]:
        """Events that stand in the windows although their flow is new: history that was warmed and is streamed again."""
        suspects = [
            bound
            for bound in bounds
            if any(self._windows.of(entity).contains(bound.time, bound.place.source_seq) for entity in bound.entities)
        ]
        return store.present(unit.connection, [event for bound in suspects for event in self._events(bound)])

    def _events(self, bound: _Bound) -> list[EntityEvent]:
        """The flow as seen by its card and by its terminal, whose windows are here."""
        sides = [(entity[1], self._windows.of(entity).key) for entity in bound.entities]
        return store.entity_events(
            bound.flow[0], bound.key, sides, bound.time, bound.place.source_seq, bound.amount_minor
        )

    def _take_in(
        self,
        bound: _Bound,
        counted: set[EntityEvent],
        events: list[EntityEvent],
        horizons: dict[EntityKey, int],
    ) -> bool:
        """Put a flow into the windows of its entities; True when it came late for one of them."""
        late = False
        horizon = bound.time - self._retention
        for event in self._events(bound):
            if event in counted:
                continue
            entity = (event.platform_run_id, event.entity)
            events.append(event)
            row = (event.time, event.source_seq, event.amount_minor, event.counterpart)
            late = self._windows.add(entity, row) or late
            if self._windows.prune(entity, horizon):
                horizons[entity] = max(horizon, horizons.get(entity, horizon))
        return late

    def _publish(self, bound: _Bound, unit: UnitOfWork) -> Snapshot:
        """The vector of a flow whose entities' windows hold it already; returns its row of the snapshot index."""
        card = self._windows.of(bound.card) if bound.card else None
        terminal = self._windows.of(bound.terminal) if bound.terminal else None
        features = vector(card, terminal, bound.body, self._label_delay_days)
        digest = snapshot_hash(features, self._revision)
        record = bound.record
        added = {
            "features": features,
            "feature_status": "PRESENT",
            "feature_revision": self._revision,
            "snapshot_hash": digest,
            "bound_position": (record.partition, record.position),
        }
        run, flow_id = bound.flow
        unit.publish(
            FEATURED, key=routing_key(bound.body), event_id=flow_id, platform_run_id=run, body=_extended(bound, added)
        )
        at = (record.partition, record.position)
        place = bound.place
        return Snapshot(
            run, flow_id, digest, self._revision, bound.payload_hash, *at, place.entity, place.time, place.source_seq
        )


def _extended(bound: _Bound, added: dict[str, Any]) -> bytes:
    """The bound record with `added` behind it: its own bytes, which need not be written again."""
    raw = bound.record.body
    if raw.endswith(b"}") and added.keys().isdisjoint(bound.body):
        return raw[:-1] + b"," + orjson.dumps(added)[1:]
    return orjson.dumps({**bound.body, **added})


class _Tally:
    """What a step adds per run: the newest event time, late records, records beyond the allowed lateness."""

    def __init__(self, newest: dict[str, int], lateness: int) -> None:
        self._newest = newest
        self._lateness = lateness
        self._late: Counter[str] = Counter()
        self._too_late: Counter[str] = Counter()

    def see(self, bound: _Bound, *, late: bool) -> None:
        run = bound.flow[0]
        newest = self._newest.get(run, bound.time)
        self._newest[run] = max(newest, bound.time)
        if newest - bound.time > self._lateness:
            self._too_late[run] += 1
        elif late:
            self._late[run] += 1

    def counts(self, repeats: Counter[str]) -> dict[str, Counts]:
        runs = self._newest.keys() | repeats.keys()
        return {
            run: Counts(self._newest.get(run, 0), repeats[run], self._late[run], self._too_late[run]) for run in runs
        }


def _bound(record: Record, body: dict[str, Any], time: int) -> _Bound:
    run: str = sys.intern(body["platform_run_id"])  # one text for all windows of a run
    amount, seq = body["traffic"]["amount_minor"], body["source_seq"]
    if not isinstance(amount, int) or not isinstance(seq, int):
        raise TypeError(f"amount_minor {amount!r} and source_seq {seq!r} must be whole numbers")
    if abs(amount) > AMOUNT_MINOR_MAX or not -(2**63) <= seq < 2**63:
        raise ValueError(f"amount_minor {amount} or source_seq {seq} is beyond what a window holds")
    flow_id = body["flow_id"]
    card, terminal = store.card_entity(body["card_token"]), terminal_key(body)
    return _Bound(
        record=record,
        body=body,
        flow=(run, flow_id),
        payload_hash=payload_digest(body),
        time=time,
        card=(run, card) if card else None,
        terminal=(run, terminal) if terminal else None,
        key=store.flow_key(flow_id),
        place=FlowPlace(run, flow_id, terminal, time, seq),
        amount_minor=amount,
    )


def _anomaly(bound: _Bound, stored: bytes, unit: UnitOfWork) -> tuple[Any, ...]:
    record = bound.record
    run, flow_id = bound.flow
    return run, record.partition, record.position, flow_id, stored, bound.payload_hash, record.body, unit.now


def build(context: WorkerContext) -> list[Activity]:
    """One consumer of the bound flows and of the labels they wait for."""
    get = context.profile.get
    plane = FeaturePlane(
        label_delay_days=get("features.label_delay_days"),
        lateness_seconds=get("features.lateness_seconds"),
        cached_entries_max=get("features.cached_entries_max"),
        bus_beside=nullcontext if context.same_server else lambda _connection: context.bus.scope(),
    )
    return [context.consumer(plane, topics=WORKER.consumes)]


WORKER = Worker(
    name="online_feature_plane",
    schema="ofp",
    dsn="OFP_PROJECTION_DSN",
    consumes=("flows.bound", LABELS),
    publishes=(FEATURED,),
    build=build,
    keeps_plans=True,
    equations=("bound_equals_featured", "featured_equals_published", "labels_equal_applied"),
)
