"""case_management: puts each trigger into its subject's open case, or opens one, and keeps the timeline.

The merge rule is `domain.cases`; here it runs over a batch in the order of the records. The cases of a batch are locked
first, so people who change them at the same time wait their turn and lose nothing. What people ask for comes as requests
(`_case_changes`); on its own it assigns nobody and resolves nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.cases import SubjectCase, after, place, trigger_entry
from fraud_daemons.domain.identity import canonical_json, derived_id
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import cases
from fraud_daemons.state.cases import PlacedTrigger, Subject, TriggerKey
from fraud_daemons.workers.case_labels._bodies import made_from
from fraud_daemons.workers.case_labels._case_changes import CaseChanges

_NEEDED = (
    "trigger_id",
    "platform_run_id",
    "subject_kind",
    "subject",
    "kind",
    "decision_id",
    "flow_id",
    "outcome",
    "reason",
)
Hashed = tuple[dict[str, Any], str]


class CaseManagement(StatelessHandler):
    """Places triggers; a trigger placed before changes nothing."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        """Lock the subjects' latest cases, place in record order, write and publish."""
        triggers = [(body, hashlib.sha256(canonical_json(body)).hexdigest()) for body in map(_trigger, records)]
        latest = cases.lock_latest(unit.connection, [_subject(body) for body, _ in triggers])
        before = cases.placed(unit.connection, [_key(body) for body, _ in triggers])
        fresh, conflicts = _sorted_out(triggers, before)
        placements = place_in_order(fresh, latest)
        cases.write(unit.connection, placements, at=unit.now)
        cases.keep_conflicts(unit.connection, conflicts, at=unit.now)
        for placed in placements:
            unit.publish(
                "case_events",
                key=placed.trigger["subject"],
                event_id=derived_id("case_event", placed.placement.case_id, placed.placement.entry),
                platform_run_id=placed.trigger["platform_run_id"],
                body=placed.entry,
            )


def place_in_order(triggers: Sequence[Hashed], latest: Mapping[Subject, SubjectCase]) -> list[PlacedTrigger]:
    """The merge rule over a batch: each placement is what the next trigger of the same subject finds."""
    standing = dict(latest)
    placements = []
    for body, digest in triggers:
        subject = _subject(body)
        placement = place(body, standing.get(subject))
        standing[subject] = after(placement)
        placements.append(PlacedTrigger(body, digest, placement, trigger_entry(body, placement)))
    return placements


def _sorted_out(triggers: Sequence[Hashed], before: Mapping[TriggerKey, str]) -> tuple[list[Hashed], list[Hashed]]:
    """The triggers not placed before, and those that repeat an id with other content. True repeats are dropped."""
    known = dict(before)
    fresh, conflicts = [], []
    for body, digest in triggers:
        key = _key(body)
        if key not in known:
            known[key] = digest
            fresh.append((body, digest))
        elif known[key] != digest:
            conflicts.append((body, digest))
    return fresh, conflicts


def _trigger(record: Record) -> dict[str, Any]:
    return made_from(record, _checked)


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in _NEEDED if not isinstance(body[name], str)]
    if missing:
        raise ValueError(f"{missing[0]} must be text")
    return body


def _subject(body: Mapping[str, Any]) -> Subject:
    return Subject(body["platform_run_id"], body["subject_kind"], body["subject"])


def _key(body: Mapping[str, Any]) -> TriggerKey:
    return TriggerKey(body["platform_run_id"], body["trigger_id"])


def build(context: WorkerContext) -> list[Activity]:
    """A consumer of triggers, and one of what people ask for."""
    return [
        context.consumer(CaseManagement(), topics=("case_triggers",)),
        context.consumer(CaseChanges(), topics=("control",), name="case_management.changes"),
    ]


WORKER = Worker(
    name="case_management",
    schema="case_mgmt",
    dsn="CASE_MGMT_LOCATOR",
    build=build,
    keeps_plans=True,
    gathers=True,
    consumes=("case_triggers", "control"),
    publishes=("case_events",),
    equations=("triggers_equal_opened_plus_merged",),
)
