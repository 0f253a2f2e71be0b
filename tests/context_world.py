"""A small world by hand, its parts sent in any order, and what is wrong with the bindings that come of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson

from fraud_daemons.bus.port import partition_of
from fraud_daemons.clock import iso
from fraud_daemons.domain.envelope import OUTPUTS, make_event, make_mark
from tests.line import RUN, Line

SCENARIO = "a" * 32
Event = dict[str, Any]
World = dict[str, list[Event]]


def world(flows: int, *, run: str = RUN, scenario: str = SCENARIO, name: str | None = "w", first: int = 0) -> World:
    """`flows` transactions of 5 cards at 3 terminals, two in each second, as events per output in the world's order."""
    events: World = {output: [] for output in OUTPUTS}
    for number in range(first, first + flows):
        at = iso(datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=number // 2))
        place = {"merchant_id": "m", "terminal_id": f"t{number % 3}", "arrival_seq": number + 1}
        who = {"party_id": None, "account_id": None, "card_token": f"c{number % 5}", "device_id": None, "ip": None}
        flow = {"flow_id": f"{scenario[0]}f{number:05d}"}
        where = {"channel": "POS", "pos_entry_mode": None, "mcc": "5411", "merchant_name": None, "country": "US"}
        payloads = {
            "traffic": {**flow, "amount_minor": 100 + number, "currency": "USD", "message_type": "0100"},
            "arrival_events": {**place, **where, "state": None, "postal_code": None},
            "arrival_entities": {**place, **who},
            "flow_anchors": {**flow, **place, **who},
        }
        for output, payload in payloads.items():
            events[output].append(
                make_event(
                    event_type=output, payload=payload, occurred_at=at, source_seq=number, platform_run_id=run,
                    scenario_run_id=scenario, world=name, producer="test",
                )
            )  # fmt: skip
    return events


def mark(output: str, event: Event) -> Event:
    """The mark of `output` up to and including `event`."""
    pins = event["pins"]
    return make_mark(
        output=output, up_to=(event["occurred_at"], event["source_seq"]), end_of_world=False, stop_reason=None,
        platform_run_id=pins["platform_run_id"], scenario_run_id=pins["scenario_run_id"], world=pins["world"], producer="test",
    )  # fmt: skip


def send(line: Line, output: str, events: Iterable[Event]) -> None:
    """Append events of one output, keyed as the gate does it."""
    line.append(output, events, key=lambda e: e["payload"].get("flow_id") or f"frame {e['payload']['arrival_seq']}")


def send_marks(line: Line, last: Event, outputs: Sequence[str] = OUTPUTS) -> None:
    """Marks up to `last`, on every partition of each output."""
    with line.bus.transaction() as log:
        partitions = len(log.heads(["traffic"]))
    keys = {}
    for n in count():  # a key for each partition
        keys.setdefault(partition_of(str(n), partitions), str(n))
        if len(keys) == partitions:
            break
    for output in outputs:
        for key in keys.values():
            line.append(output, [mark(output, last)], key=lambda _, key=key: key)


def send_shuffled(line: Line, events: World, *, seed: int, pieces: int = 4) -> None:
    """Everything of a world, each output shuffled on its own, the outputs in pieces that alternate at random."""
    dice = random.Random(seed)
    waiting = []
    for output, mine in events.items():
        mixed = dice.sample(mine, len(mine))
        size = max(1, len(mixed) // pieces)
        waiting += [(output, mixed[start : start + size]) for start in range(0, len(mixed), size)]
    dice.shuffle(waiting)
    for output, piece in waiting:
        send(line, output, piece)


def bound(line: Line) -> list[dict[str, Any]]:
    """Everything of flows.bound in the order in which it was appended, over all partitions."""
    rows = line.sql("select body from bus.log where topic = 'flows.bound' order by ctid")
    return [orjson.loads(body) for (body,) in rows]


def problems(line: Line, events: World, *, withheld: Sequence[str] = ()) -> list[str]:
    """What is wrong with the bindings of a world: somebody missing or doubled, out of order, or with a wrong status."""
    flows = {e["payload"]["flow_id"]: e for e in events["traffic"]}
    mine = [b for b in bound(line) if b["scenario_run_id"] == events["traffic"][0]["pins"]["scenario_run_id"]]
    found = [b["flow_id"] for b in mine]
    wrong = [f"{flow} is not bound" for flow in flows if flow not in found]
    wrong += [f"{flow} is bound twice" for flow in set(found) if found.count(flow) > 1]
    for field in ("card_token", "terminal_id"):
        last: dict[Any, tuple[str, int]] = {}
        for b in mine:
            place = (b["occurred_at"], b["source_seq"])
            if b[field] is not None and place < last.setdefault(b[field], place):
                wrong.append(f"{b['flow_id']} comes behind {last[b[field]]} of {field} {b[field]}")
            last[b[field]] = place
    stored = dict(line.sql("select flow_id, context_status from csfb.bindings"))
    for b in mine:
        expected = "MISSING" if b["flow_id"] in withheld else "COMPLETE"
        if not b["context_status"] == stored.get(b["flow_id"]) == expected:
            wrong.append(f"{b['flow_id']} is {b['context_status']}, not {expected}")
    return wrong


def without_anchor(events: World, flow_id: str) -> World:
    """The world with one anchor withheld."""
    return {**events, "flow_anchors": [e for e in events["flow_anchors"] if e["payload"]["flow_id"] != flow_id]}
