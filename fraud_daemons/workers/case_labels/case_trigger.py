"""case_trigger: decisions to REVIEW or BLOCK and failed actions become case triggers; nothing else does.

Ids are derived, so a replay of the input meets its own footprint and publishes nothing again. It opens no case: where a
trigger goes is decided by case_management.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.cases import trigger_from_action_outcome, trigger_from_decision
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import case_triggers
from fraud_daemons.state.case_triggers import SourcedTrigger
from fraud_daemons.workers.case_labels._bodies import made_from

_RULES = {
    "decisions": (trigger_from_decision, "decision_id"),
    "action_outcomes": (trigger_from_action_outcome, "intent_id"),
}
"""Topic -> the rule, and the field that names what a trigger was raised for."""


class CaseTrigger(StatelessHandler):
    """Keeps what is new and publishes it, keyed by its subject so that a subject's triggers stay in order."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        """One insert per batch; only triggers not stored before go out."""
        triggers = [trigger for record in records if (trigger := _trigger(record)) is not None]
        for body in case_triggers.add(unit.connection, triggers, at=unit.now):
            unit.publish(
                "case_triggers",
                key=body["subject"],
                event_id=body["trigger_id"],
                platform_run_id=body["platform_run_id"],
                body=body,
            )


def _trigger(record: Record) -> SourcedTrigger | None:
    rule, source = _RULES[record.topic]

    def make(body: dict[str, Any]) -> SourcedTrigger | None:
        trigger = rule(body)
        if trigger is None:
            return None
        return SourcedTrigger(trigger, body[source], record.topic, record.partition, record.position)

    return made_from(record, make)


def build(context: WorkerContext) -> list[Activity]:
    """One consumer of both topics."""
    return [context.consumer(CaseTrigger(), topics=WORKER.consumes)]


WORKER = Worker(
    name="case_trigger",
    schema="case_trigger",
    dsn="CASE_TRIGGER_REPLAY_DSN",
    build=build,
    keeps_plans=True,
    gathers=True,
    consumes=("decisions", "action_outcomes"),
    publishes=("case_triggers",),
    equations=("alerts_equal_triggers", "triggers_equal_published"),
)
