"""Executes what people ask of cases: one writer, whoever asks. The entry, its event and the answer commit together.

A request is answered once, under its derived id; what cannot be done is answered too, with who was faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.case_changes import REQUESTED, Change, change_of, entry_of
from fraud_daemons.domain.cases import EntryKind
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import case_changes, cases
from fraud_daemons.state.case_changes import Answer
from fraud_daemons.workers.case_labels._bodies import made_from


class CaseChanges(StatelessHandler):
    """The handler of requests on `control`. They come at the pace of people, so each has its own statements."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        for record in records:
            change = made_from(record, _change)
            if change is not None and not _answered(change, unit):
                answer = _execute(change, unit)
                case_changes.put_answer(
                    unit.connection,
                    platform_run_id=change.platform_run_id,
                    request_id=change.request_id,
                    case_id=change.case_id,
                    answer=answer,
                    at=unit.now,
                )


def _change(body: dict[str, Any]) -> Change | None:
    """The change a record asks for; other requests on `control` are for others."""
    return change_of(body) if body["kind"] == REQUESTED else None


def _answered(change: Change, unit: UnitOfWork) -> bool:
    return case_changes.answer_to(unit.connection, change.platform_run_id, change.request_id) is not None


def _execute(change: Change, unit: UnitOfWork) -> Answer:
    run, case = change.platform_run_id, change.case_id
    if change.kind is EntryKind.RESOLVED:
        strangers = {flow for flow, _ in change.flows} - set(case_changes.flows_of(unit.connection, run, case))
        if strangers:
            return Answer("REFUSED", f"flow {min(strangers)} is not in this case", None)
    number = cases.change(
        unit.connection,
        platform_run_id=run,
        case_id=case,
        kind=change.kind,
        at=unit.now,
        expected_version=change.expected_version,
        assignee=change.assignee,
        disposition=None if change.disposition is None else str(change.disposition),
    )
    if number is None:
        return Answer("REFUSED", case_changes.why_not(unit.connection, run, case), None)
    entry = entry_of(change, number)
    cases.append_entry(unit.connection, entry, at=unit.now)
    event_id = derived_id("case_event", case, number)
    unit.publish("case_events", key=case, event_id=event_id, platform_run_id=run, body=entry)
    return Answer("APPLIED", "", number)
