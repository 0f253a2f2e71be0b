"""When a flow leaves the context store, with what context, and what the bound record looks like.

Flows of a world leave in the world's total order, one line for the whole world: a flow leaves once the traffic mark
has passed it (nothing earlier can come), every earlier flow has left, and its context is either COMPLETE or will never
be: the marks of all its missing outputs have passed it. Slowness alone never decides.

Flows of live producers, which send no marks, leave as soon as they are COMPLETE, or with what there is when their
wall-clock budget has run out; the record's `release_rule` says which rule let it go.

A frame is found through the anchor. Without the anchor the flow is MISSING, even if its frame lies in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from fraud_daemons.domain.envelope import BEFORE_EVERYTHING, OUTPUTS, OrderKey

Marks = Mapping[str, OrderKey]
"""Output -> the place up to which everything of it is known to be here. An output without a mark is at the start."""


class ContextStatus(StrEnum):
    """How much of a flow's context the bound record carries."""

    COMPLETE = "COMPLETE"  # anchor and both frames
    PARTIAL = "PARTIAL"  # anchor, but a frame is missing
    MISSING = "MISSING"  # no anchor


class ReleaseRule(StrEnum):
    """Which rule let the flow go."""

    COMPLETE = "complete"
    MARKS = "marks"
    BUDGET = "budget"


class Standing(StrEnum):
    """A part that arrives, against what is stored under its key."""

    NEW = "NEW"
    REPEAT = "REPEAT"
    CONFLICT = "CONFLICT"  # same key, another payload: kept apart as an anomaly, never overwritten


class PendingFlow(NamedTuple):
    """A flow that has not left: its place in the order, which parts are there, when its traffic event was admitted."""

    order: OrderKey
    flow_id: str
    has_anchor: bool
    has_arrival: bool
    has_entities: bool
    admitted_at: float = 0.0  # epoch seconds; read only under a budget


class Release(NamedTuple):
    """A flow that leaves now."""

    flow_id: str
    status: ContextStatus
    rule: ReleaseRule


_MARK_ORDER: Final = ("traffic", "flow_anchors", "arrival_events", "arrival_entities")
_COMPLETE: Final = (ContextStatus.COMPLETE, ReleaseRule.COMPLETE)


def classify(stored_hash: str | None, arriving_hash: str) -> Standing:
    """The identity law for one part: nothing stored, the same payload, or another payload under the same key."""
    if stored_hash is None:
        return Standing.NEW
    return Standing.REPEAT if stored_hash == arriving_hash else Standing.CONFLICT


def lowest_mark(marks_by_partition: Iterable[OrderKey]) -> OrderKey:
    """The mark of an output read from several partitions: what ALL of them have passed.

    Give one entry per partition, BEFORE_EVERYTHING for one without a mark.
    """
    return min(marks_by_partition, default=BEFORE_EVERYTHING)


def advance(marks: Marks, output: str, up_to: OrderKey) -> dict[str, OrderKey]:
    """The marks after one more; a mark never goes back (a stream sent again from the start repeats old marks)."""
    return {**marks, output: max(up_to, marks.get(output, BEFORE_EVERYTHING))}


def release_by_marks(pending: Iterable[PendingFlow], marks: Marks, *, limit: int) -> list[Release]:
    """Flows of one world that leave now, in order; at most `limit`.

    `pending` holds ALL flows of the world that have not left, from the first in order on (a prefix will do), sorted by
    order. Stops at the first flow that must wait, because nothing may overtake it.
    """
    traffic, anchors, arrivals, entities = (marks.get(output, BEFORE_EVERYTHING) for output in _MARK_ORDER)
    released: list[Release] = []
    for flow in pending:
        order = flow.order
        if len(released) >= limit or order > traffic:
            break
        if flow.has_anchor and flow.has_arrival and flow.has_entities:
            released.append(Release(flow.flow_id, *_COMPLETE))
        elif not flow.has_anchor:
            if order > anchors:
                break
            released.append(Release(flow.flow_id, ContextStatus.MISSING, ReleaseRule.MARKS))
        else:
            if (not flow.has_arrival and order > arrivals) or (not flow.has_entities and order > entities):
                break
            released.append(Release(flow.flow_id, ContextStatus.PARTIAL, ReleaseRule.MARKS))
    return released


def release_by_budget(
    pending: Sequence[PendingFlow], *, now: float, budget_seconds: float, limit: int
) -> list[Release]:
    """Live flows that leave now, in the order given; at most `limit`. `now` is epoch seconds, handed in.

    One that must wait holds up nobody else: without marks there is no total order to keep.
    """
    released: list[Release] = []
    for flow in pending:
        if len(released) >= limit:
            break
        status = context_status(flow)
        if status is ContextStatus.COMPLETE:
            released.append(Release(flow.flow_id, status, ReleaseRule.COMPLETE))
        elif now - flow.admitted_at >= budget_seconds:
            released.append(Release(flow.flow_id, status, ReleaseRule.BUDGET))
    return released


def context_status(flow: PendingFlow) -> ContextStatus:
    """What the context of a flow amounts to with the parts that are there."""
    if not flow.has_anchor:
        return ContextStatus.MISSING
    return ContextStatus.COMPLETE if flow.has_arrival and flow.has_entities else ContextStatus.PARTIAL


def bind(
    release: Release,
    *,
    event: Mapping[str, Any],
    anchor: dict[str, Any] | None,
    arrival: dict[str, Any] | None,
    entities: dict[str, Any] | None,
    sources: Mapping[str, Sequence[int] | None],
    admitted_at: float,
) -> dict[str, Any]:
    """The `flows.bound` record. `event` is the whole traffic event; the parts are payloads.

    `sources` maps an output to its [partition, position]; outputs it does not name become null. `admitted_at` is epoch
    seconds of the last part. The parts given must be those the release was decided on: a frame without its anchor is
    left out, because nothing says that it belongs to this flow.
    """
    if anchor is None:
        arrival = entities = None
    place = anchor or {}
    pins = event["pins"]
    return {
        "flow_id": release.flow_id,
        "platform_run_id": pins["platform_run_id"],
        "scenario_run_id": pins["scenario_run_id"],
        "world": pins["world"],
        "occurred_at": event["occurred_at"],
        "source_seq": event["source_seq"],
        "event_id": event["event_id"],
        "traffic": event["payload"],
        "anchor": anchor,
        "arrival": arrival,
        "entities": entities,
        "card_token": place.get("card_token") or (entities or {}).get("card_token"),
        "terminal_id": place.get("terminal_id"),
        "merchant_id": place.get("merchant_id"),
        "context_status": str(release.status),
        "release_rule": str(release.rule),
        "sources": {output: sources.get(output) for output in OUTPUTS},
        "admitted_at": admitted_at,
    }


def routing_key(bound: Mapping[str, Any]) -> str:
    """The key that keeps an entity together from `flows.bound` on: the card, else the flow."""
    key: str = bound["card_token"] or bound["flow_id"]
    return key
