"""Keeps who was seen with whom: entities and edges with first and last seen and counts, from every bound flow once.

It reads beside the line: nobody waits for it, and a decision only names the version it could have seen. It estimates
nothing, resolves no identities by likeness, and forgets no edge of a run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.features import microseconds
from fraud_daemons.domain.graph import Shown, merged, shown_by
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import graph
from fraud_daemons.state.graph import FlowKey


class _Read(NamedTuple):
    """A bound record read: whose flow, its bytes' hash, when it occurred (microseconds), what it shows."""

    flow: FlowKey
    digest: bytes
    at: int
    shown: Shown
    record: Record


class EntityGraph(StatelessHandler):
    """The handler: a flow's row in `ieg.applied` and its sightings commit together, so a repeat finds itself."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        first: dict[FlowKey, _Read] = {}
        again: list[_Read] = []
        for read in _read(records, unit):
            if read.flow in first:
                again.append(read)
            else:
                first[read.flow] = read
        new = graph.claim(unit.connection, {flow: read.digest for flow, read in first.items()})
        again += [read for flow, read in first.items() if flow not in new]
        _apply([read for flow, read in first.items() if flow in new], unit)
        applied, repeats = Counter(run for run, _ in new), self._repeats(again, unit)
        runs = applied.keys() | repeats.keys()
        graph.advance(unit.connection, {run: (applied[run], repeats[run]) for run in runs})

    def _repeats(self, again: Sequence[_Read], unit: UnitOfWork) -> Counter[str]:
        """Flows that are in the graph already: the same record is counted, another one kept apart as an anomaly."""
        repeats: Counter[str] = Counter()
        if not again:
            return repeats
        known = graph.applied_hashes(unit.connection, list({read.flow for read in again}))
        anomalies = []
        for flow, digest, _, _, record in again:
            if known[flow] == digest:
                repeats[flow[0]] += 1
            else:
                anomalies.append((flow[0], record.partition, record.position, flow[1], digest, record.body, unit.now))
        graph.put_anomalies(unit.connection, anomalies)
        return repeats


def _read(records: Sequence[Record], unit: UnitOfWork) -> Iterator[_Read]:
    """Bound records; one that breaks its contract is set aside here, where it is known which one."""
    for record in records:
        try:
            flow = orjson.loads(record.body)
            key, shown = (flow["platform_run_id"], flow["flow_id"]), shown_by(flow)
            at = microseconds(shown.occurred_at)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            unit.dead_letter(record, reason="breaks its contract", detail=f"{type(error).__name__}: {error}")
            continue
        yield _Read(key, hashlib.sha256(record.body).digest(), at, shown, record)


def _apply(new: Sequence[_Read], unit: UnitOfWork) -> None:
    by_run: dict[str, list[tuple[int, Shown]]] = {}
    for read in new:
        by_run.setdefault(read.flow[0], []).append((read.at, read.shown))
    for run, shown in sorted(by_run.items()):
        entities, edges = merged(shown)
        graph.add_entities(unit.connection, run, entities)
        graph.add_edges(unit.connection, run, edges)


def build(context: WorkerContext) -> list[Activity]:
    """One consumer of the bound flows."""
    return [context.consumer(EntityGraph(), topics=WORKER.consumes)]


WORKER = Worker(
    name="identity_entity_graph",
    schema="ieg",
    dsn="IEG_PROJECTION_DSN",
    consumes=("flows.bound",),
    build=build,
    keeps_plans=True,
    gathers=True,
    equations=("bound_equals_graph_applied",),
)
