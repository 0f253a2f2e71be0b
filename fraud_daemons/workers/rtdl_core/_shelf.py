"""What one batch of the context store works on: the parts that stand in the database under its keys, and its arrivals.

Built anew for every batch and thrown away with it. It holds parts to the identity law, says which flows are ready and
remembers what has to be written; it neither reads nor writes anything itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.binding import PendingFlow, Standing, classify
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, PROGRESS_MARK, OrderKey
from fraud_daemons.domain.identity import frame_key, payload_digest
from fraud_daemons.state.context import Anchor, FlowKey, FrameKey, Part, StoredFlow, StoredFrame, Waiting, World

_ARRIVAL: Final = "arrival_events"
_ANCHOR: Final = "flow_anchors"


class Arrival(NamedTuple):
    """A part as it came: whose it is, where it belongs, its record and its event."""

    output: str
    world: World
    live: bool
    key: str
    """flow_id of traffic and anchors, frame key of the two arrival outputs"""
    order: OrderKey
    frame_key: str
    """of an anchor: the frame it names"""
    event: dict[str, Any]
    part: Part


class Mark(NamedTuple):
    """A progress mark as it came."""

    world: World
    output: str
    partition: int
    up_to: OrderKey


class Conflict(NamedTuple):
    """A part under the key of another: what stands there stays."""

    arrival: Arrival
    stored_hash: bytes


class Leaving(NamedTuple):
    """A flow with the parts it leaves with."""

    waiting: Waiting
    anchor: Anchor | None
    arrival: Part | None
    entities: Part | None


def parse(records: Sequence[Record]) -> list[tuple[Record, Any]]:
    """Records with their JSON; one that is none comes as None.

    One parse for the whole batch takes half the time of one for each record.
    """
    try:
        events = orjson.loads(b"[" + b",".join([record.body for record in records]) + b"]")
    except ValueError:
        events = []
    if len(events) == len(records):
        return list(zip(records, events, strict=True))
    return [(record, _json_or_none(record.body)) for record in records]


def _json_or_none(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def read_event(record: Record, event: Any) -> Arrival | Mark:
    """A record's event as a part or a mark. Raises ValueError, KeyError or TypeError when it breaks its contract."""
    pins, payload = event["pins"], event["payload"]
    world = World(pins["platform_run_id"], pins["scenario_run_id"])
    if event["event_type"] == PROGRESS_MARK:
        up_to = _place(payload["up_to_occurred_at"], payload["up_to_source_seq"])
        return Mark(world, record.topic, record.partition, up_to)
    order = _place(event["occurred_at"], event["source_seq"])
    frame = ""
    if record.topic != "traffic":
        frame = frame_key(payload["merchant_id"], payload["terminal_id"], payload["arrival_seq"])
    key = payload["flow_id"] if record.topic in ("traffic", _ANCHOR) else frame
    digest = payload_digest(event)
    part = Part(event["event_id"], digest, record.partition, record.position, record.appended_at, record.body)
    return Arrival(record.topic, world, pins["world"] is None, key, order, frame, event, part)


def _place(occurred_at: Any, source_seq: Any) -> OrderKey:
    if not isinstance(occurred_at, str) or not isinstance(source_seq, int):
        raise TypeError(f"({occurred_at!r}, {source_seq!r}) is no place in an order of (text, whole number)")
    return occurred_at, source_seq


class Shelf:
    """Parts by key. `waiting`, `anchors` and `frames` are as they will be; the rest says how that differs from storage."""

    def __init__(self) -> None:
        self.waiting: dict[FlowKey, Waiting] = {}
        self.anchors: dict[FlowKey, Anchor] = {}
        self.frames: dict[FrameKey, StoredFrame] = {}
        self.bound: dict[FlowKey, bytes] = {}
        self.left: set[FlowKey] = set()
        self.conflicts: list[Conflict] = []
        self.repeats: Counter[tuple[str, str]] = Counter()
        self._stored_waiting: set[FlowKey] = set()
        self._stored_anchors: set[FlowKey] = set()
        self._stored_frames: set[FrameKey] = set()
        self._changed_frames: set[FrameKey] = set()
        self._events: dict[tuple[str, int, int], dict[str, Any]] = {}

    def hold_flows(self, flows: Iterable[StoredFlow]) -> None:
        """Take what stands in the database under these flows."""
        for flow in flows:
            if flow.bound_hash is not None:
                self.bound[flow.key] = flow.bound_hash
            if flow.waiting is not None:
                self.waiting[flow.key] = flow.waiting
                self._stored_waiting.add(flow.key)
            if flow.anchor is not None:
                self.anchors[flow.key] = flow.anchor
                self._stored_anchors.add(flow.key)

    def hold_frames(self, frames: Iterable[StoredFrame]) -> None:
        """Take what stands in the database under these frames."""
        for frame in frames:
            self.frames[frame.key] = frame
            self._stored_frames.add(frame.key)

    def frames_wanted(self, arrivals: Iterable[Arrival]) -> set[FrameKey]:
        """The frames that this batch may complete: of its arrivals, and of the anchors already here."""
        wanted = {(*arrival.world, arrival.frame_key) for arrival in arrivals if arrival.frame_key}
        wanted |= {
            (run, anchor.scenario_run_id, anchor.frame_key)
            for (run, flow_id), anchor in self.anchors.items()
            if (run, flow_id) in self.waiting or anchor.part.body is not None
        }
        return wanted

    def put(self, arrival: Arrival) -> None:
        """One arrival, held to the identity law: new, the same again, or another under the same key."""
        stored = self._stored_hash(arrival)
        if stored is None:
            self._add(arrival)
        elif classify(stored.hex(), arrival.part.payload_hash.hex()) is Standing.REPEAT:
            self.repeats[arrival.world.platform_run_id, arrival.output] += 1
        else:
            self.conflicts.append(Conflict(arrival, stored))

    def queue(self, world: World, *, limit: int) -> tuple[list[PendingFlow], bool]:
        """The world's waiting flows in order, and whether more of them stand in the database behind these.

        At most `limit` stored flows were loaded; when that many came, nothing behind the last of them may be looked at,
        or a flow of this batch could overtake one that was not loaded.
        """
        run, scenario = world
        mine = sorted(
            (waiting.order, key[1], waiting)
            for key, waiting in self.waiting.items()
            if key[0] == run and waiting.scenario_run_id == scenario
        )
        stored = [order for order, flow_id, _ in mine if (run, flow_id) in self._stored_waiting]
        cut = len(stored) >= limit
        horizon = stored[limit - 1] if cut else AFTER_EVERYTHING
        claimed: dict[FrameKey, str] = {}
        return [
            self._pending(run, flow_id, waiting, claimed) for order, flow_id, waiting in mine if order <= horizon
        ], cut

    def take(self, key: FlowKey) -> Leaving:
        """Let a flow leave: its parts, whose bodies need not be kept any longer."""
        waiting = self.waiting.pop(key)
        self.left.add(key)
        anchor = self._anchor_of(key, waiting)
        if anchor is None:
            return Leaving(waiting, None, None, None)
        where = (key[0], anchor.scenario_run_id, anchor.frame_key)
        frame = self.frames.get(where)
        if frame is None or frame.taken_by is not None:
            return Leaving(waiting, anchor, None, None)
        self.frames[where] = StoredFrame(where, key[1], frame.arrival, frame.entities)
        self._changed_frames.add(where)
        return Leaving(waiting, anchor, frame.arrival, frame.entities)

    def event_of(self, output: str, part: Part) -> dict[str, Any]:
        """The event of a part: as parsed in this batch, or from its stored body."""
        event: dict[str, Any] | None = self._events.get((output, part.partition, part.position))
        return event if event is not None else orjson.loads(part.body or b"")

    # what has to be written

    def new_waiting(self) -> Iterator[tuple[FlowKey, Waiting]]:
        """Flows that came now and stay."""
        return ((key, waiting) for key, waiting in self.waiting.items() if key not in self._stored_waiting)

    def gone_waiting(self) -> list[FlowKey]:
        """Flows that had waited and have left."""
        return [key for key in self.left if key in self._stored_waiting]

    def new_anchors(self) -> Iterator[tuple[FlowKey, Anchor, bool]]:
        """Anchors that came now, and whether their body will be asked for: not once the flow has left."""
        for key, anchor in self.anchors.items():
            if key not in self._stored_anchors:
                yield key, anchor, key not in self.left and key not in self.bound

    def gone_anchors(self) -> list[FlowKey]:
        """Stored anchors whose flow has left."""
        return [key for key in self.left if key in self._stored_anchors]

    def new_frames(self) -> Iterator[StoredFrame]:
        """Frames of which nothing was known before."""
        return (frame for key, frame in self.frames.items() if key not in self._stored_frames)

    def changed_frames(self) -> Iterator[StoredFrame]:
        """Stored frames that gained a part or a flow."""
        return (self.frames[key] for key in self._changed_frames if key in self._stored_frames)

    def _stored_hash(self, arrival: Arrival) -> bytes | None:
        """The hash that stands under the arrival's key."""
        flow = (arrival.world.platform_run_id, arrival.key)
        match arrival.output:
            case "traffic":
                waiting = self.waiting.get(flow)
                return waiting.traffic.payload_hash if waiting else self.bound.get(flow)
            case "flow_anchors":
                anchor = self.anchors.get(flow)
                return anchor.part.payload_hash if anchor else None
            case _:
                frame = self.frames.get((*arrival.world, arrival.key))
                part = frame and (frame.arrival if arrival.output == _ARRIVAL else frame.entities)
                return part.payload_hash if part else None

    def _add(self, arrival: Arrival) -> None:
        world, part = arrival.world, arrival.part
        self._events[arrival.output, part.partition, part.position] = arrival.event
        match arrival.output:
            case "traffic":
                waiting = Waiting(world.scenario_run_id, arrival.order, arrival.live, part)
                self.waiting[world.platform_run_id, arrival.key] = waiting
            case "flow_anchors":
                anchor = Anchor(world.scenario_run_id, arrival.frame_key, part)
                self.anchors[world.platform_run_id, arrival.key] = anchor
            case _:
                where = (*world, arrival.key)
                _, taken_by, came, entities = self.frames.get(where) or (where, None, None, None)
                if arrival.output == _ARRIVAL:
                    self.frames[where] = StoredFrame(where, taken_by, part, entities)
                else:
                    self.frames[where] = StoredFrame(where, taken_by, came, part)
                self._changed_frames.add(where)

    def _pending(self, run: str, flow_id: str, waiting: Waiting, claimed: dict[FrameKey, str]) -> PendingFlow:
        """How much of a flow's context is here. A frame serves one flow: the first in order that names it."""
        anchor = self._anchor_of((run, flow_id), waiting)
        frame = None
        if anchor is not None:
            where = (run, anchor.scenario_run_id, anchor.frame_key)
            frame = self.frames.get(where)
            if frame is not None and (frame.taken_by is not None or claimed.setdefault(where, flow_id) != flow_id):
                frame = None
        return PendingFlow(
            order=waiting.order,
            flow_id=flow_id,
            has_anchor=anchor is not None,
            has_arrival=frame is not None and frame.arrival is not None,
            has_entities=frame is not None and frame.entities is not None,
            admitted_at=waiting.traffic.appended_at,
        )

    def _anchor_of(self, key: FlowKey, waiting: Waiting) -> Anchor | None:
        """A flow's anchor, of the same world: an equal flow_id of another world is somebody else's."""
        anchor = self.anchors.get(key)
        return anchor if anchor is not None and anchor.scenario_run_id == waiting.scenario_run_id else None
