"""What a round is: the rows of each output up to one place, the truth known by then, and the marks behind them. Pure
but for reading the sealed world.

A round is cut into parts - one output's rows and its mark - and parts are packed into POSTs. Truth observed up to the
round's last moment goes first, so that no transaction can be decided before what was known at its time has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fraud_daemons.domain.envelope import AFTER_EVERYTHING, OUTPUTS, TRUTH, OrderKey, make_event, make_mark
from fraud_daemons.worlds.sealed import World

PRODUCER = "world_stream_producer"
MAX_EVENTS, END_OF_WORLD = "max_events", "end_of_world"

Event = dict[str, Any]


@dataclass(frozen=True)
class Bounds:
    """A round in the world: rows [start, end) of the outputs and, before them, truth from `truth_start` on."""

    start: int
    end: int
    truth_start: int
    stop_reason: str | None
    """Why the stream ends behind this round; None when it does not."""
    with_marks: bool
    """False while rows are sent again that were sent before: a mark never goes back."""

    @property
    def ends_world(self) -> bool:
        return self.stop_reason == END_OF_WORLD


@dataclass(frozen=True)
class Part:
    """Some rows of one output in order, and the mark behind them."""

    output: str
    first_index: int
    events: Sequence[Event]
    mark: Event | None

    @property
    def everything(self) -> list[Event]:
        return [*self.events, self.mark] if self.mark else list(self.events)


@dataclass(frozen=True)
class Pins:
    """What every event of a stream carries."""

    platform_run_id: str
    scenario_run_id: str
    world: str


def stop_reason_at(end: int, *, limit: int, transactions: int) -> str | None:
    """Why a stream stops at row `end`; None when it goes on. `limit` is the row behind its last."""
    if end >= transactions:
        return END_OF_WORLD
    return MAX_EVENTS if end >= limit else None


def truth_end(world: World, bounds: Bounds) -> int:
    """The truth row behind the last one of this round."""
    if bounds.ends_world:
        return max(bounds.truth_start, world.count(TRUTH))
    return max(bounds.truth_start, _truth_known(world, bounds))


def parts_of(world: World, bounds: Bounds, pins: Pins, *, rows_max: int) -> list[Part]:
    """The parts of a round in the order in which they must be sent; no part has more than `rows_max` rows."""
    up_to = world.order_key("traffic", bounds.end - 1)
    known = max(bounds.truth_start, _truth_known(world, bounds))
    # the feed has an order of its own: its mark is behind every truth of that moment, whatever its number
    before = _chunks(world, TRUTH, bounds.truth_start, known, pins, rows_max=rows_max, mark=_marker(
        TRUTH, (up_to[0], AFTER_EVERYTHING[1]), bounds, pins, last=False))  # fmt: skip
    outputs = [
        part
        for output in OUTPUTS
        for part in _chunks(world, output, bounds.start, bounds.end, pins, rows_max=rows_max,
                            mark=_marker(output, up_to, bounds, pins, last=True))
    ]  # fmt: skip
    if not bounds.ends_world:
        return [*before, *outputs]
    rest = _chunks(world, TRUTH, known, world.count(TRUTH), pins, rows_max=rows_max, mark=_marker(
        TRUTH, AFTER_EVERYTHING, bounds, pins, last=True))  # fmt: skip
    return [*before, *outputs, *rest]


def packed(parts: Sequence[Part], *, events_max: int) -> list[list[Part]]:
    """Parts in POSTs of at most `events_max` events: a small round is one request instead of five."""
    posts: list[list[Part]] = []
    room = 0
    for part in parts:
        size = len(part.everything)
        if not posts or size > room:
            posts.append([])
            room = events_max
        posts[-1].append(part)
        room -= size
    return posts


def _truth_known(world: World, bounds: Bounds) -> int:
    """Rows of truth observed by the round's last moment."""
    return world.rows_until(TRUTH, world.order_key("traffic", bounds.end - 1)[0])


def _marker(output: str, up_to: OrderKey, bounds: Bounds, pins: Pins, *, last: bool) -> Callable[[], Event] | None:
    if not bounds.with_marks:
        return None
    return lambda: make_mark(
        output=output,
        up_to=up_to,
        end_of_world=last and bounds.ends_world,
        stop_reason=bounds.stop_reason if last else None,
        platform_run_id=pins.platform_run_id,
        scenario_run_id=pins.scenario_run_id,
        world=pins.world,
        producer=PRODUCER,
    )


def _chunks(
    world: World, output: str, start: int, end: int, pins: Pins, *, rows_max: int, mark: Callable[[], Event] | None
) -> list[Part]:
    """Rows [start, end) of an output in parts, the mark behind the last; a mark alone when there are no rows."""
    parts = []
    for first in range(start, end, rows_max):
        rows = world.read(output, first, min(rows_max, end - first))
        behind = mark() if mark and first + rows_max >= end else None
        parts.append(Part(output, first, [_event(output, row, pins) for row in rows], behind))
    if not parts and mark:
        parts.append(Part(output, start, [], mark()))
    return parts


def _event(output: str, row: dict[str, Any], pins: Pins) -> Event:
    return make_event(
        event_type=output,
        payload=row["payload"],
        occurred_at=row["occurred_at"],
        source_seq=row["source_seq"],
        platform_run_id=pins.platform_run_id,
        scenario_run_id=pins.scenario_run_id,
        world=pins.world,
        producer=PRODUCER,
    )
