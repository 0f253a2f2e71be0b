"""What the feature plane knows of labels: the ledger, the windows they count in, and how far the truth feed has come.

A flow of a world with a truth feed waits until the feed's marks have passed it, so that every label observed by then was
applied; who has no feed goes by what is known. Whether there is one is no question of time: the feed's mark is admitted
before the traffic it speaks for, so a world whose flows arrive and whose feed has left no mark on the bus has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, PROGRESS_MARK
from fraud_daemons.domain.features import microseconds
from fraud_daemons.domain.fraud_windows import Change, changes_of
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import feature_labels as store
from fraud_daemons.state.feature_labels import FlowKey, FlowPlace, Labelled, LabelRow, WorldKey
from fraud_daemons.state.features import EntityKey, flow_key
from fraud_daemons.workers.rtdl_core._windows import Windows

LABELS: Final = "labels"
WORLDS_REMEMBERED_MAX: Final = 1000
AWAITED_MAX: Final = 1000
"""So many flows that labels wait for are looked at here; of more the database is asked which of a batch they are."""
_NEVER: Final = -(2**62)
_FOR_EVER: Final = 2**62

BusBeside = Callable[[Connection], AbstractContextManager[Connection]]
"""A connection to the bus while the worker's own is open: that very one where both stand on one server."""


class Labels:
    """The feature plane's labels. In memory: the marks of the worlds seen lately, as of the last commit."""

    def __init__(self, bus_beside: BusBeside) -> None:
        self._bus_beside = bus_beside
        self._covered: dict[WorldKey, int] = {}

    def forget(self) -> None:
        self._covered.clear()

    def take_in(self, records: Sequence[Record], unit: UnitOfWork, windows: Windows) -> None:
        """Labels into the ledger and into the windows that are in memory; marks are noted."""
        rows: dict[tuple[str, str], LabelRow] = {}
        marks: dict[tuple[str, str, int], int] = {}
        for record in records:
            try:
                body = orjson.loads(record.body)
                if body.get("event_type") == PROGRESS_MARK:
                    where = (body["pins"]["platform_run_id"], body["pins"]["scenario_run_id"], record.partition)
                    marks[where] = max(_covers(body["payload"]), marks.get(where, _NEVER))
                else:
                    row = _label(body)
                    rows.setdefault((row.platform_run_id, row.label_id), row)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                unit.dead_letter(record, reason="breaks its contract", detail=f"{type(error).__name__}: {error}")
        store.put_marks(unit.connection, marks)
        for run, scenario, _ in marks:
            self._covered.pop((run, scenario), None)
        changed = store.take_in(unit.connection, list(rows.values()))
        _tell(windows, store.of_flows(unit.connection, changed))

    def load(self, loaded: Sequence[EntityKey], unit: UnitOfWork, windows: Windows) -> None:
        """What labels say about the terminals whose windows were loaded just now."""
        since = {entity: time for entity in loaded if (time := windows.of(entity).first_time()) is not None}
        terminals = {entity: time for entity, time in since.items() if not entity[1].startswith("c:")}
        _tell(windows, store.of_entities(unit.connection, terminals))

    def place(self, flows: Sequence[FlowPlace], unit: UnitOfWork) -> dict[FlowKey, list[Change]]:
        """Labels that came before their flow: what they say about these new flows, to be told as each is taken in."""
        runs = {flow.platform_run_id for flow in flows}
        awaited = store.waiting(unit.connection, runs, limit=AWAITED_MAX)
        if len(awaited) < AWAITED_MAX:  # they are all of them: most batches then have nothing to place
            flows = [flow for flow in flows if (flow.platform_run_id, flow.flow_id) in awaited]
        return {
            (place.platform_run_id, place.flow_id): changes_of(labels)
            for place, labels in store.place(unit.connection, flows).items()
        }

    def must_wait(self, body: dict[str, Any], time: int, unit: UnitOfWork) -> bool:
        """Whether labels observed by `time` may still come for the world of this bound record."""
        if body["world"] is None:
            return False
        world = (body["platform_run_id"], body["scenario_run_id"])
        covered = self._covered.get(world)
        if covered is None:
            if len(self._covered) >= WORLDS_REMEMBERED_MAX:
                self._covered.clear()
            covered = self._covered[world] = self._look_up(world, unit)
        return covered < time

    def _look_up(self, world: WorldKey, unit: UnitOfWork) -> int:
        marks = store.marks_of(unit.connection, world)
        if marks:
            partitions = [where.partition for where in unit.positions if where.topic == LABELS]
            return min(marks.get(partition, _NEVER) for partition in partitions)
        with self._bus_beside(unit.connection) as bus:
            fed = store.truth_has_marks(bus, world)
        return _NEVER if fed else _FOR_EVER


def _tell(windows: Windows, labelled: Labelled) -> None:
    for place, labels in labelled.items():
        entity = (place.platform_run_id, place.entity or "")
        if entity in windows:
            windows.label(entity, (place.time, place.source_seq, flow_key(place.flow_id)), changes_of(labels))


def _covers(payload: dict[str, Any]) -> int:
    """Up to which moment a mark says that every label has come: its own only when it is behind all of that moment."""
    time = microseconds(payload["up_to_occurred_at"])
    return time if payload["up_to_source_seq"] >= AFTER_EVERYTHING[1] else time - 1


def _label(body: dict[str, Any]) -> LabelRow:
    row = LabelRow(
        platform_run_id=body["platform_run_id"],
        label_id=body["label_id"],
        flow_id=body["flow_id"],
        type=body["type"],
        value=body["value"],
        source=body["source"],
        observed=microseconds(body["observed_time"]),
        supersedes=body["supersedes"],
    )
    if not all(isinstance(text, str) for text in row[:6]):
        raise TypeError("a label's ids, type, value and source must be texts")
    return row
