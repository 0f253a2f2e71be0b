"""Which decisions and outcomes become triggers, and the merge rule."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain import cases
from fraud_daemons.domain.cases import EntryKind, SubjectCase, place
from fraud_daemons.domain.identity import derived_id

RUN = "platform_20260101T000000Z"


def decision(outcome: str, *, card: str | None = "c1", flow: str = "f1") -> dict[str, Any]:
    return {
        "decision_id": f"d-{flow}",
        "flow_id": flow,
        "platform_run_id": RUN,
        "outcome": outcome,
        "reasons": [{"rule_id": "a", "reason": "too much", "weight": 1}],
        "card_token": card,
        "occurred_at": "2018-07-18T00:00:00.000000Z",
        "source_seq": 4,
    }


def outcome(status: str, *, card: str | None = "c1") -> dict[str, Any]:
    return {
        "intent_id": "i1",
        "decision_id": "d1",
        "flow_id": "f1",
        "platform_run_id": RUN,
        "action": "notify_cardholder",
        "status": status,
        "attempts": 3,
        "detail": "refused",
        "card_token": card,
        "completed_at": "2026-01-01T00:00:00.000000Z",
    }


def test_only_review_and_block_trigger() -> None:
    """ALLOW and STEP_UP open no case."""
    made = {o: cases.trigger_from_decision(decision(o)) for o in ("ALLOW", "STEP_UP", "REVIEW", "BLOCK")}
    assert [o for o, trigger in made.items() if trigger] == ["REVIEW", "BLOCK"]


def test_only_failed_actions_trigger() -> None:
    """EXECUTED and DENIED are ordinary ends of an intent."""
    made = {s: cases.trigger_from_action_outcome(outcome(s)) for s in ("EXECUTED", "DENIED", "FAILED")}
    assert [s for s, trigger in made.items() if trigger] == ["FAILED"]


def test_trigger_ids_are_derived_from_run_kind_and_source() -> None:
    """A replay of the same decision makes the same id; another run another."""
    trigger = cases.trigger_from_decision(decision("BLOCK"))
    assert trigger is not None
    assert trigger["trigger_id"] == derived_id("trigger", RUN, "DECISION", "d-f1")
    other = cases.trigger_from_decision({**decision("BLOCK"), "platform_run_id": "platform_20260102T000000Z"})
    assert other is not None
    assert other["trigger_id"] != trigger["trigger_id"]


def test_the_subject_is_the_card_else_the_flow() -> None:
    """Without a card the flow stands alone; it never shares a case with a card of the same name."""
    with_card, without = (cases.trigger_from_decision(decision("BLOCK", card=card)) for card in ("c1", None))
    assert with_card is not None
    assert without is not None
    assert (with_card["subject_kind"], with_card["subject"]) == ("card", "c1")
    assert (without["subject_kind"], without["subject"]) == ("flow", "f1")
    assert cases.case_id(RUN, "card", "x", 1) != cases.case_id(RUN, "flow", "x", 1)


def test_after_a_resolution_the_next_trigger_opens_the_next_case() -> None:
    """At most one case is open per subject; ordinals count from 1."""
    trigger = cases.trigger_from_decision(decision("BLOCK")) or {}
    first = place(trigger, None)
    second = place(trigger, cases.after(first))
    reopened = place(trigger, SubjectCase(ordinal=1, is_open=False, last_entry=7))
    assert (first.ordinal, first.entry, first.kind) == (1, 1, EntryKind.OPENED)
    assert (second.case_id, second.entry, second.kind) == (first.case_id, 2, EntryKind.MERGED)
    assert (reopened.ordinal, reopened.entry, reopened.kind) == (2, 1, EntryKind.OPENED)
    assert reopened.case_id == derived_id("case", RUN, "card", "c1", 2)


@given(st.lists(st.tuples(st.sampled_from(["c1", "c2", None]), st.integers(0, 5)), max_size=30))
def test_without_resolutions_there_is_one_case_per_distinct_subject(flows: list[tuple[str | None, int]]) -> None:
    """The merge rule as its docstring states it, recomputed from the triggers alone."""
    latest: dict[tuple[str, str], SubjectCase] = {}
    timeline: dict[str, list[int]] = {}
    triggers = [cases.trigger_from_decision(decision("REVIEW", card=card, flow=f"f{n}")) or {} for card, n in flows]
    for trigger in triggers:
        subject = (trigger["subject_kind"], trigger["subject"])
        placement = place(trigger, latest.get(subject))
        latest[subject] = cases.after(placement)
        timeline.setdefault(placement.case_id, []).append(cases.trigger_entry(trigger, placement)["entry"])
    expected = {derived_id("case", RUN, t["subject_kind"], t["subject"], 1) for t in triggers}
    assert set(timeline) == expected
    assert all(entries == list(range(1, len(entries) + 1)) for entries in timeline.values())


def test_work_on_a_case_is_written_as_entries() -> None:
    """Assignment, note and resolution name their actor and time and keep the case's count."""
    about = {"case": "k", "platform_run_id": RUN, "actor": "ada", "at": "2026-01-01T00:00:00.000000Z"}
    assigned = cases.assigned_entry(entry=2, assignee="bob", **about)
    note = cases.note_entry(entry=3, text="called", **about)
    resolved = cases.resolved_entry(entry=4, disposition=cases.Disposition.FRAUD, flows=[], **about)
    assert [e["kind"] for e in (assigned, note, resolved)] == ["ASSIGNED", "NOTE", "RESOLVED"]
    assert [e["entry"] for e in (assigned, note, resolved)] == [2, 3, 4]
    assert resolved["disposition"] == "FRAUD"
