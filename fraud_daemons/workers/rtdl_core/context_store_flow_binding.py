"""Joins each traffic event with its anchor and its frame, and lets flows leave in the world's total order.

What leaves, when and as what is decided by `domain.binding` from progress marks; slowness alone decides nothing. A flow
of a live producer, who sends no marks, leaves when it is complete or when its wall-clock budget has run out. A part
that comes under the key of another with another payload is kept apart and never used. This worker is a single writer:
two of them could not keep one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.binding import (
    Marks,
    Release,
    bind,
    lowest_mark,
    release_by_budget,
    release_by_marks,
    routing_key,
)
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, BEFORE_EVERYTHING, OUTPUTS, OrderKey
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import context as store
from fraud_daemons.state.context import MarkKey, World
from fraud_daemons.workers.rtdl_core._shelf import Arrival, Leaving, Mark, Shelf, parse, read_event

RELEASES_MAX: Final = 1000
"""Flows that leave in one transaction: twice a batch, so that a backlog shrinks while new batches come."""

BOUND: Final = "flows.bound"

MarksByPartition = dict[MarkKey, OrderKey]


@dataclass
class _Batch:
    """A batch sorted out: parts in the order in which they were read, the newest marks, and who it touches."""

    arrivals: list[Arrival] = field(default_factory=list)
    marks: dict[World, MarksByPartition] = field(default_factory=dict)
    worlds: dict[World, bool] = field(default_factory=dict)
    """world -> whether it is live"""


class ContextStore:
    """The handler. Between batches it remembers only which worlds have something to do without a new record."""

    def __init__(self, *, budget_seconds: float, partitions: Callable[[Connection], Mapping[str, int]]) -> None:
        self._budget_seconds = budget_seconds
        self._partitions = partitions
        self._restless: dict[World, bool] | None = None

    def forget(self) -> None:
        self._restless = None

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        if self._restless is None:
            self._restless = store.worlds_pending(unit.connection)
        batch = _sort_out(records, unit)
        worlds = {**self._restless, **batch.worlds}
        if not worlds:
            return
        marks = self._marks(unit.connection, worlds, batch.marks)
        shelf = _fill_shelf(unit.connection, batch.arrivals, _up_to(worlds, marks))
        for arrival in batch.arrivals:
            shelf.put(arrival)
        bindings = []
        for world, release in self._releases(shelf, worlds, marks, unit):
            bindings.append(_bind(shelf, world, release, unit))
        store.put_marks(unit.connection, batch.marks)
        _write(shelf, bindings, unit)

    def _marks(
        self, connection: Connection, worlds: Iterable[World], arrived: Mapping[World, MarksByPartition]
    ) -> dict[World, Marks]:
        """Per world and output the lowest mark over all partitions; an output without any is left out."""
        partitions = self._partitions(connection)
        lowest: dict[World, Marks] = {}
        for world, found in store.marks_of(connection, worlds).items():
            for where, up_to in arrived.get(world, {}).items():
                found[where] = max(up_to, found.get(where, BEFORE_EVERYTHING))
            lowest[world] = {
                output: lowest_mark(found.get((output, p), BEFORE_EVERYTHING) for p in range(partitions[output]))
                for output in {output for output, _ in found}
            }
        return lowest

    def _releases(
        self, shelf: Shelf, worlds: Mapping[World, bool], marks: Mapping[World, Marks], unit: UnitOfWork
    ) -> list[tuple[World, Release]]:
        """Who leaves now, world by world, each in its order; remembers which worlds must be looked at again."""
        leaving: list[tuple[World, Release]] = []
        restless: dict[World, bool] = {}
        for world, live in worlds.items():
            room = RELEASES_MAX - len(leaving)
            queue, cut = shelf.queue(world, limit=RELEASES_MAX)
            if marks[world] or not live:
                releases = release_by_marks(queue, marks[world], limit=room)
                timed = False
            else:
                now = unit.now.timestamp()
                releases = release_by_budget(queue, now=now, budget_seconds=self._budget_seconds, limit=room)
                timed = len(releases) < len(queue) or cut
            more = len(releases) == room or (cut and len(releases) == len(queue))
            if more or timed:
                restless[world] = live
            unit.more_waiting = unit.more_waiting or more
            leaving += [(world, release) for release in releases]
        self._restless = restless
        return leaving


def _sort_out(records: Sequence[Record], unit: UnitOfWork) -> _Batch:
    """Parts and marks of a batch; a record that breaks its contract is set aside here, where it is known which one."""
    batch = _Batch()
    for record, event in parse(records):
        try:
            item = read_event(record, event)
        except (ValueError, KeyError, TypeError) as error:
            unit.dead_letter(record, reason="breaks its contract", detail=f"{type(error).__name__}: {error}")
            continue
        if isinstance(item, Mark):
            marks = batch.marks.setdefault(item.world, {})
            where = (item.output, item.partition)
            marks[where] = max(item.up_to, marks.get(where, BEFORE_EVERYTHING))
            batch.worlds.setdefault(item.world, False)
        else:
            batch.arrivals.append(item)
            batch.worlds[item.world] = item.live
    return batch


def _up_to(worlds: Mapping[World, bool], marks: Mapping[World, Marks]) -> dict[World, OrderKey]:
    """Up to where flows of each world may leave; a world from which nothing can leave is left out."""
    places = {}
    for world, live in worlds.items():
        unmarked = AFTER_EVERYTHING if live and not marks[world] else BEFORE_EVERYTHING
        up_to = marks[world].get("traffic", unmarked)
        if up_to > BEFORE_EVERYTHING:
            places[world] = up_to
    return places


def _fill_shelf(connection: Connection, arrivals: Sequence[Arrival], up_to: Mapping[World, OrderKey]) -> Shelf:
    """Everything the database holds that these arrivals touch or that may leave, in two statements."""
    shelf = Shelf()
    touched = {
        (arrival.world.platform_run_id, arrival.key)
        for arrival in arrivals
        if arrival.output in ("traffic", "flow_anchors")
    }
    shelf.hold_flows(store.load_flows(connection, touched, up_to, limit=RELEASES_MAX))
    shelf.hold_frames(store.load_frames(connection, shelf.frames_wanted(arrivals)))
    return shelf


def _bind(shelf: Shelf, world: World, release: Release, unit: UnitOfWork) -> tuple[Any, ...]:
    """Publish one flow with its context; returns its row of `csfb.bindings`."""
    run = world.platform_run_id
    leaving = shelf.take((run, release.flow_id))
    parts = _parts(leaving)
    events = {output: shelf.event_of(output, part) for output, part in parts.items()}
    payloads = {output: event["payload"] for output, event in events.items()}
    bound = bind(
        release,
        event=events["traffic"],
        anchor=payloads.get("flow_anchors"),
        arrival=payloads.get("arrival_events"),
        entities=payloads.get("arrival_entities"),
        sources={output: (part.partition, part.position) for output, part in parts.items()},
        admitted_at=max(part.appended_at for part in parts.values()),
    )
    unit.publish(BOUND, key=routing_key(bound), event_id=release.flow_id, platform_run_id=run, body=bound)
    traffic = leaving.waiting.traffic
    return (
        run,
        release.flow_id,
        world.scenario_run_id,
        traffic.event_id,
        traffic.payload_hash,
        *leaving.waiting.order,
        str(release.status),
        str(release.rule),
        leaving.anchor.frame_key if leaving.anchor else None,
        *(number for output in OUTPUTS for number in _where(parts.get(output))),
        unit.now,
    )


def _where(part: store.Part | None) -> tuple[int | None, int | None]:
    return (part.partition, part.position) if part is not None else (None, None)


def _parts(leaving: Leaving) -> dict[str, store.Part]:
    """The parts a flow leaves with, by output."""
    anchor = leaving.anchor.part if leaving.anchor else None
    found = (leaving.waiting.traffic, leaving.arrival, leaving.entities, anchor)
    return {output: part for output, part in zip(OUTPUTS, found, strict=True) if part is not None}


def _write(shelf: Shelf, bindings: Sequence[tuple[Any, ...]], unit: UnitOfWork) -> None:
    """What stays, what has gone, what was bound and what was odd; statements with nothing to say are not sent."""
    connection = unit.connection
    store.put_pending(connection, shelf.new_waiting())
    store.drop_pending(connection, shelf.gone_waiting())
    store.put_anchors(connection, shelf.new_anchors())
    store.clear_anchors(connection, shelf.gone_anchors())
    store.put_frames(connection, shelf.new_frames())
    store.update_frames(connection, shelf.changed_frames())
    store.put_bindings(connection, bindings)
    store.count_repeats(connection, shelf.repeats)
    store.put_anomalies(
        connection,
        [
            (
                *arrival.world,
                arrival.output,
                arrival.key,
                arrival.part.partition,
                arrival.part.position,
                arrival.part.event_id,
                stored_hash,
                arrival.part.payload_hash,
                arrival.part.body,
                unit.now,
            )
            for arrival, stored_hash in shelf.conflicts
        ],
    )


def build(context: WorkerContext) -> list[Activity]:
    """One consumer of the four outputs; it also steps when nothing came, for budgets and for what a limit held back."""
    handler = ContextStore(
        budget_seconds=context.profile.get("context.budget_seconds"), partitions=context.bus.partitions
    )
    return [context.consumer(handler, topics=WORKER.consumes, wants_idle=True)]


WORKER = Worker(
    name="context_store_flow_binding",
    schema="csfb",
    dsn="CSFB_PROJECTION_DSN",
    consumes=OUTPUTS,
    publishes=(BOUND,),
    build=build,
    keeps_plans=True,
    equations=("admitted_traffic_equals_bound", "admitted_context_equals_frames_and_anchors", "bound_equals_published"),
)
