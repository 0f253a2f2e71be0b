"""The entity graph's tables (schema ieg): sightings added in sets, each flow once; neighbours within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fraud_daemons.domain.graph import DEPTH_MAX, FAN_OUT_MAX, SCAN_MAX, Sighting
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.state.arrays import columns

_SQL = "fraud_daemons.state.sql"

FlowKey = tuple[str, str]
"""(platform_run_id, flow_id)"""


@dataclass(frozen=True)
class Entity:
    """One entity as the graph knows it."""

    entity: str
    first_seen: datetime
    last_seen: datetime
    flows: int


class Neighbour(NamedTuple):
    """One edge as seen from `entity`. `scanned` = edges of `entity` that were read."""

    entity: str
    neighbour: str
    first_seen: datetime
    last_seen: datetime
    flows: int
    scanned: int


def claim(connection: Connection, flows: Mapping[FlowKey, bytes]) -> set[FlowKey]:
    """Mark flows (key -> sha256 of the record) as applied; those that were not before."""
    if not flows:
        return set()
    rows = connection.execute(
        "insert into ieg.applied (platform_run_id, flow_id, record_sha256)"
        " select run, flow, hash from unnest(%b::text[], %b::text[], %b::bytea[]) as w(run, flow, hash) order by run, flow"
        " on conflict do nothing returning platform_run_id, flow_id",
        columns([(run, flow, digest) for (run, flow), digest in flows.items()]),
    )
    return {(run, flow) for run, flow in rows}


def applied_hashes(connection: Connection, flows: Sequence[FlowKey]) -> dict[FlowKey, bytes]:
    """The record hash under which each of `flows` was applied."""
    rows = connection.execute(
        "select platform_run_id, flow_id, record_sha256 from ieg.applied"
        " join unnest(%b::text[], %b::text[]) as w(platform_run_id, flow_id) using (platform_run_id, flow_id)",
        columns(flows),
    )
    return {(run, flow): bytes(digest) for run, flow, digest in rows}


def add_entities(connection: Connection, run: str, seen: Mapping[str, Sighting]) -> None:
    """Add sightings of a run's entities."""
    if seen:
        entities, first, last, flows = columns([(entity, *sighting) for entity, sighting in seen.items()])
        connection.execute(
            load(_SQL, "graph_upsert_entities.sql"),
            {"run": run, "entities": entities, "first": first, "last": last, "flows": flows},
        )


def add_edges(connection: Connection, run: str, seen: Mapping[tuple[str, str], Sighting]) -> None:
    """Add sightings of (card, other entity) together in a run."""
    if seen:
        cards, entities, first, last, flows = columns([(*pair, *sighting) for pair, sighting in seen.items()])
        connection.execute(
            load(_SQL, "graph_upsert_edges.sql"),
            {"run": run, "cards": cards, "entities": entities, "first": first, "last": last, "flows": flows},
        )


def advance(connection: Connection, counts: Mapping[str, tuple[int, int]]) -> None:
    """Move each run's version on by (flows applied, repeats absorbed)."""
    if counts:
        rows = [(run, *count) for run, count in sorted(counts.items())]
        connection.execute(
            "insert into ieg.versions as v (platform_run_id, version, repeats)"
            " select run, flows, repeats from unnest(%b::text[], %b::bigint[], %b::bigint[]) as w(run, flows, repeats)"
            " on conflict (platform_run_id) do update set version = v.version + excluded.version,"
            " repeats = v.repeats + excluded.repeats",
            columns(rows),
        )


def put_anomalies(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep records under the id of another: (run, partition, position, flow, sha256, body, found at)."""
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany("insert into ieg.anomalies values (%s,%s,%s,%s,%s,%s,%s) on conflict do nothing", rows)


def versions(connection: Connection, runs: Sequence[str]) -> dict[str, int]:
    """How many flows the graph stands for, by run; a run that it has not seen is left out."""
    rows = connection.execute(
        "select platform_run_id, version from ieg.versions where platform_run_id = any(%s)", (list(runs),)
    )
    return {str(run): int(version) for run, version in rows}


def find(connection: Connection, run: str, entities: Sequence[str]) -> list[Entity]:
    """Those of `entities` that the run has seen."""
    rows = connection.execute(
        "select entity, first_seen, last_seen, flows from ieg.entities where platform_run_id = %s and entity = any(%s)"
        " order by entity",
        (run, list(entities)),
    )
    return [Entity(*row) for row in rows]


def neighbours(connection: Connection, run: str, entities: Sequence[str], *, fan_out: int) -> list[Neighbour]:
    """One step out from each of `entities`: at most `fan_out` edges each, most recently seen first."""
    rows = connection.execute(
        load(_SQL, "graph_neighbours.sql"),
        {"run": run, "entities": list(entities), "fan_out": min(fan_out, FAN_OUT_MAX), "scan": SCAN_MAX},
    )
    return [Neighbour(*row) for row in rows]


def around(connection: Connection, run: str, entity: str, *, depth: int, fan_out: int) -> list[list[Neighbour]]:
    """The neighbourhood of `entity` by distance: element 0 is one step away. An entity is stepped from once."""
    reached, frontier, steps = {entity}, [entity], []
    for _ in range(min(depth, DEPTH_MAX)):
        found = neighbours(connection, run, frontier, fan_out=fan_out)
        frontier = [name for name in dict.fromkeys(n.neighbour for n in found) if name not in reached]
        reached.update(frontier)
        steps.append(found)
        if not frontier:
            break
    return steps
