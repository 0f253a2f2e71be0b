"""Triggers, and the rule by which they become cases.

**What triggers.** A decision REVIEW or BLOCK (kind DECISION, source id = decision_id) and an action outcome FAILED
(kind ACTION_FAILED, source id = intent_id). Nothing else: ALLOW, STEP_UP, EXECUTED and DENIED do not.
`trigger_id` = derived ("trigger", platform_run_id, kind, source id), so a replay meets its own footprint.

**The merge rule.** The subject of a trigger is its card (`subject_kind` "card", the card token) or, where the card is
unknown, its flow ("flow", the flow id). Per run and subject there is at most one open case. Triggers are taken in the
order in which they were published: a trigger whose subject has an open case is MERGED into it, any other OPENs a case
with the next ordinal of its subject, counted from 1. `case_id` = derived ("case", platform_run_id, subject_kind,
subject, ordinal). A trigger already placed changes nothing. Hence, while nothing is resolved, the cases of a run are
exactly its distinct subjects, each with ordinal 1 and all triggers of that subject.

**The timeline** of a case is append-only: entries count from 1, the first is OPENED. RESOLVED closes the case; the
next trigger of the subject opens another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fraud_daemons.domain.identity import derived_id


class TriggerKind(StrEnum):
    """Where a trigger came from."""

    DECISION = "DECISION"
    ACTION_FAILED = "ACTION_FAILED"
    MANUAL = "MANUAL"
    EXTERNAL = "EXTERNAL"


class EntryKind(StrEnum):
    """What a timeline entry records."""

    OPENED = "OPENED"
    MERGED = "MERGED"
    ASSIGNED = "ASSIGNED"
    NOTE = "NOTE"
    RESOLVED = "RESOLVED"


class Disposition(StrEnum):
    """What an investigator found. The first two become HUMAN labels of the case's flows, the third none."""

    FRAUD = "FRAUD"
    LEGIT = "LEGIT"
    INCONCLUSIVE = "INCONCLUSIVE"


TRIGGERING_OUTCOMES: Final = frozenset({"REVIEW", "BLOCK"})


@dataclass(frozen=True, slots=True)
class SubjectCase:
    """The latest case of a subject: its ordinal, whether it is still open, and its last timeline entry."""

    ordinal: int
    is_open: bool
    last_entry: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a trigger goes: which case, and its entry there (kind OPENED or MERGED)."""

    case_id: str
    ordinal: int
    entry: int
    kind: EntryKind


def trigger_id(platform_run_id: str, kind: TriggerKind, source_id: str) -> str:
    """The derived id of a trigger."""
    return derived_id("trigger", platform_run_id, kind, source_id)


def subject_of(card_token: str | None, flow_id: str) -> tuple[str, str]:
    """(subject_kind, subject): the card, else the flow."""
    return ("card", card_token) if card_token else ("flow", flow_id)


def trigger_from_decision(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `case_triggers` record of a decision, or None when its outcome calls for no case."""
    if decision["outcome"] not in TRIGGERING_OUTCOMES:
        return None
    subject_kind, subject = subject_of(decision["card_token"], decision["flow_id"])
    return {
        "trigger_id": trigger_id(decision["platform_run_id"], TriggerKind.DECISION, decision["decision_id"]),
        "platform_run_id": decision["platform_run_id"],
        "kind": str(TriggerKind.DECISION),
        "subject_kind": subject_kind,
        "subject": subject,
        "decision_id": decision["decision_id"],
        "flow_id": decision["flow_id"],
        "outcome": decision["outcome"],
        "reason": "; ".join(reason["reason"] for reason in decision["reasons"]) or "no rule named",
        "occurred_at": decision["occurred_at"],
        "source_seq": decision["source_seq"],
    }


def trigger_from_action_outcome(outcome: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `case_triggers` record of a failed action, or None. It occurred when the action was given up.

    An action has no place in the world's order, so `source_seq` is 0.
    """
    if outcome["status"] != "FAILED":
        return None
    subject_kind, subject = subject_of(outcome["card_token"], outcome["flow_id"])
    return {
        "trigger_id": trigger_id(outcome["platform_run_id"], TriggerKind.ACTION_FAILED, outcome["intent_id"]),
        "platform_run_id": outcome["platform_run_id"],
        "kind": str(TriggerKind.ACTION_FAILED),
        "subject_kind": subject_kind,
        "subject": subject,
        "decision_id": outcome["decision_id"],
        "flow_id": outcome["flow_id"],
        "outcome": outcome["status"],
        "reason": f"{outcome['action']} failed after {outcome['attempts']} attempts: {outcome['detail']}",
        "occurred_at": outcome["completed_at"],
        "source_seq": 0,
    }


def case_id(platform_run_id: str, subject_kind: str, subject: str, ordinal: int) -> str:
    """The derived id of a subject's n-th case; `ordinal` counts from 1."""
    return derived_id("case", platform_run_id, subject_kind, subject, ordinal)


def place(trigger: Mapping[str, Any], latest: SubjectCase | None) -> Placement:
    """The merge rule for one trigger not placed before; `latest` is the subject's latest case in this run."""
    if latest is not None and latest.is_open:
        ordinal, entry, kind = latest.ordinal, latest.last_entry + 1, EntryKind.MERGED
    else:
        ordinal, entry, kind = (latest.ordinal if latest else 0) + 1, 1, EntryKind.OPENED
    identity = case_id(trigger["platform_run_id"], trigger["subject_kind"], trigger["subject"], ordinal)
    return Placement(case_id=identity, ordinal=ordinal, entry=entry, kind=kind)


def after(placement: Placement) -> SubjectCase:
    """The subject's latest case once the placement is written; feeds the next `place` of the same batch."""
    return SubjectCase(ordinal=placement.ordinal, is_open=True, last_entry=placement.entry)


def trigger_entry(trigger: Mapping[str, Any], placement: Placement) -> dict[str, Any]:
    """The `case_events` record of a placed trigger (OPENED or MERGED)."""
    return {
        "case_id": placement.case_id,
        "platform_run_id": trigger["platform_run_id"],
        "entry": placement.entry,
        "kind": str(placement.kind),
        "subject_kind": trigger["subject_kind"],
        "subject": trigger["subject"],
        "ordinal": placement.ordinal,
        "trigger_id": trigger["trigger_id"],
        "trigger_kind": trigger["kind"],
        "decision_id": trigger["decision_id"],
        "flow_id": trigger["flow_id"],
        "outcome": trigger["outcome"],
        "reason": trigger["reason"],
    }


def assigned_entry(
    *, case: str, platform_run_id: str, entry: int, actor: str, assignee: str | None, at: str
) -> dict[str, Any]:
    """The ASSIGNED entry; `assignee` None puts the case back into the queue."""
    return _entry(case, platform_run_id, entry, EntryKind.ASSIGNED, actor, at) | {"assignee": assignee}


def note_entry(*, case: str, platform_run_id: str, entry: int, actor: str, text: str, at: str) -> dict[str, Any]:
    """The NOTE entry."""
    return _entry(case, platform_run_id, entry, EntryKind.NOTE, actor, at) | {"text": text}


def resolved_entry(
    *,
    case: str,
    platform_run_id: str,
    entry: int,
    actor: str,
    disposition: Disposition,
    flows: list[dict[str, str]],
    at: str,
) -> dict[str, Any]:
    """The RESOLVED entry. `flows` names what is disposed of: [{"flow_id", "occurred_at"}]; labels are made from it."""
    resolved = _entry(case, platform_run_id, entry, EntryKind.RESOLVED, actor, at)
    return resolved | {"disposition": str(disposition), "flows": flows}


def _entry(case: str, platform_run_id: str, entry: int, kind: EntryKind, actor: str, at: str) -> dict[str, Any]:
    return {
        "case_id": case,
        "platform_run_id": platform_run_id,
        "entry": entry,
        "kind": str(kind),
        "actor": actor,
        "at": at,
    }
