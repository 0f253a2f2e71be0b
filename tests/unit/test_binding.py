"""When flows leave the context store."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain import binding
from fraud_daemons.domain.binding import (
    ContextStatus,
    PendingFlow,
    Release,
    ReleaseRule,
    Standing,
    release_by_budget,
    release_by_marks,
)
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, BEFORE_EVERYTHING, OUTPUTS, OrderKey

LIMIT = 500


def at(second: int, seq: int = 0) -> OrderKey:
    return f"2018-07-18T00:00:{second:02d}.000000Z", seq


def flow(second: int, parts: str = "aef", *, seq: int = 0, admitted_at: float = 0.0) -> PendingFlow:
    """`parts`: a anchor, e arrival event frame, f entities frame."""
    present = ("a" in parts, "e" in parts, "f" in parts)
    return PendingFlow(at(second, seq), f"flow-{second}-{seq}", *present, admitted_at)


def marks(second: int, **others: int) -> dict[str, OrderKey]:
    return {output: at(others.get(output, second), 99) for output in OUTPUTS}


def ids(released: list[Release]) -> list[str]:
    return [release.flow_id for release in released]


def test_complete_flows_leave_in_order_up_to_the_traffic_mark() -> None:
    """A complete flow beyond the traffic mark waits: something earlier may still come."""
    released = release_by_marks([flow(1), flow(2), flow(3)], marks(2), limit=LIMIT)
    assert ids(released) == ["flow-1-0", "flow-2-0"]
    assert {(r.status, r.rule) for r in released} == {(ContextStatus.COMPLETE, ReleaseRule.COMPLETE)}


def test_nothing_overtakes_a_flow_that_waits() -> None:
    """A flow without its anchor holds up the complete ones behind it until the anchors' mark has passed."""
    pending = [flow(1), flow(2, "ef"), flow(3)]
    waiting = release_by_marks(pending, marks(9, flow_anchors=1), limit=LIMIT)
    passed = release_by_marks(pending, marks(9), limit=LIMIT)
    assert ids(waiting) == ["flow-1-0"]
    assert [r.status for r in passed] == ["COMPLETE", "MISSING", "COMPLETE"]
    assert [r.rule for r in passed] == ["complete", "marks", "complete"]


@pytest.mark.parametrize(
    ("parts", "late", "status"),
    [
        ("ef", "flow_anchors", "MISSING"),
        ("", "flow_anchors", "MISSING"),
        ("af", "arrival_events", "PARTIAL"),
        ("ae", "arrival_entities", "PARTIAL"),
        ("a", "arrival_events", "PARTIAL"),
        ("a", "arrival_entities", "PARTIAL"),
    ],
)
def test_a_missing_part_is_given_up_only_when_its_own_mark_has_passed(parts: str, late: str, status: str) -> None:
    """Every missing output must have passed the flow; the marks of parts that are there do not matter."""
    before = release_by_marks([flow(5, parts)], marks(9, **{late: 4}), limit=LIMIT)
    after = release_by_marks([flow(5, parts)], marks(9), limit=LIMIT)
    assert before == []
    assert after == [Release("flow-5-0", ContextStatus(status), ReleaseRule.MARKS)]


def test_without_marks_nothing_leaves() -> None:
    """A frozen producer sends no marks: no time makes a flow partial."""
    assert release_by_marks([flow(1), flow(2, "")], {}, limit=LIMIT) == []


def test_flows_of_the_same_second_leave_by_source_seq() -> None:
    """A mark inside a second releases only what it covers."""
    pending = [flow(1, seq=n) for n in range(4)]
    released = release_by_marks(pending, dict.fromkeys(OUTPUTS, at(1, 1)), limit=LIMIT)
    assert ids(released) == ["flow-1-0", "flow-1-1"]


def test_a_batch_is_bounded() -> None:
    """At most `limit` flows leave; the rest leave next time."""
    pending = [flow(1, seq=n) for n in range(10)]
    assert len(release_by_marks(pending, marks(9), limit=3)) == 3
    assert len(release_by_budget(pending, now=0, budget_seconds=1, limit=3)) == 3


@given(
    parts=st.lists(st.sampled_from(["aef", "ae", "af", "a", "ef", ""]), max_size=20),
    steps=st.lists(st.tuples(st.sampled_from(OUTPUTS), st.integers(0, 20)), max_size=40),
)
def test_the_result_does_not_depend_on_how_marks_arrive(parts: list[str], steps: list[tuple[str, int]]) -> None:
    """Releasing mark by mark gives the same flows, statuses and order as releasing once at the end."""
    pending = [flow(n, part) for n, part in enumerate(parts)]
    held: dict[str, OrderKey] = {}
    left = list(pending)
    released: list[Release] = []
    for output, second in steps:
        held = binding.advance(held, output, at(second, 99))
        now = release_by_marks(left, held, limit=2)
        released += now
        left = left[len(now) :]
    for output in OUTPUTS:
        held = binding.advance(held, output, AFTER_EVERYTHING)
    released += release_by_marks(left, held, limit=LIMIT)
    assert released == release_by_marks(pending, dict.fromkeys(OUTPUTS, AFTER_EVERYTHING), limit=LIMIT)
    assert len(released) == len(pending)


def test_a_mark_never_goes_back() -> None:
    """A stream sent again from the start repeats old marks; they change nothing."""
    held = binding.advance({}, "traffic", at(5))
    assert binding.advance(held, "traffic", at(2)) == held


def test_an_output_is_as_far_as_its_slowest_partition() -> None:
    """A partition without a mark holds the whole output at the start."""
    assert binding.lowest_mark([at(5), at(3)]) == at(3)
    assert binding.lowest_mark([at(5), BEFORE_EVERYTHING]) == BEFORE_EVERYTHING
    assert binding.lowest_mark([]) == BEFORE_EVERYTHING


def test_live_flows_leave_when_complete_or_out_of_budget() -> None:
    """Without marks the wall clock decides, the record says so, and nobody waits for anybody."""
    pending = [flow(1, "a", admitted_at=100.0), flow(2), flow(3, "", admitted_at=95.0)]
    released = release_by_budget(pending, now=105.0, budget_seconds=10.0, limit=LIMIT)
    assert released == [
        Release("flow-2-0", ContextStatus.COMPLETE, ReleaseRule.COMPLETE),
        Release("flow-3-0", ContextStatus.MISSING, ReleaseRule.BUDGET),
    ]


def test_the_same_key_with_another_payload_is_a_conflict() -> None:
    """Identity law: repeat by hash, anomaly by difference."""
    assert binding.classify(None, "h1") is Standing.NEW
    assert binding.classify("h1", "h1") is Standing.REPEAT
    assert binding.classify("h1", "h2") is Standing.CONFLICT


def event() -> dict[str, Any]:
    pins = {"platform_run_id": "r", "scenario_run_id": "s", "world": "demo"}
    payload = {"flow_id": "f", "amount_minor": 5, "currency": "USD", "message_type": "0100"}
    return {"event_id": "e", "occurred_at": at(1)[0], "source_seq": 7, "pins": pins, "payload": payload}


def test_the_bound_record_carries_the_context_and_its_sources() -> None:
    """Ids come from the anchor; outputs without a source are null; the card is the routing key."""
    anchor = {"flow_id": "f", "merchant_id": "m", "terminal_id": "t", "arrival_seq": 1, "card_token": "c"}
    bound = binding.bind(
        Release("f", ContextStatus.PARTIAL, ReleaseRule.MARKS),
        event=event(),
        anchor=anchor,
        arrival=None,
        entities={"card_token": "c"},
        sources={"traffic": [0, 3], "flow_anchors": [0, 4]},
        admitted_at=12.5,
    )
    assert (bound["card_token"], bound["terminal_id"], bound["merchant_id"]) == ("c", "t", "m")
    assert (bound["context_status"], bound["release_rule"], bound["arrival"]) == ("PARTIAL", "marks", None)
    assert bound["sources"]["traffic"] == [0, 3]
    assert bound["sources"]["arrival_events"] is None
    assert binding.routing_key(bound) == "c"


def test_a_frame_without_its_anchor_is_left_out() -> None:
    """Nothing says that such a frame belongs to this flow; the flow goes under its own key."""
    bound = binding.bind(
        Release("f", ContextStatus.MISSING, ReleaseRule.MARKS),
        event=event(),
        anchor=None,
        arrival={"mcc": "5411"},
        entities={"card_token": "c"},
        sources={},
        admitted_at=1.0,
    )
    assert (bound["arrival"], bound["entities"], bound["card_token"]) == (None, None, None)
    assert binding.routing_key(bound) == "f"
