"""Takes assertions that people ask for by command: one writer of labels, whoever asks. Label, record and answer commit
together; a request is answered once, under its derived id, and what is refused is answered too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.label_assertions import REQUESTED, SOURCE_REF, Asserted, asserted_of, label_of, why_refused
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.database import Beside
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import label_requests, labels
from fraud_daemons.state.case_changes import times_of_flows
from fraud_daemons.state.label_requests import LabelAnswer
from fraud_daemons.state.labels import SourcedAssertion
from fraud_daemons.workers.case_labels._bodies import made_from


class LabelRequests(StatelessHandler):
    """The handler of requests on `control`. They come at the pace of people, so each has its own statements."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        for record in records:
            asserted = made_from(record, _asserted)
            if asserted is not None and not _answered(asserted, unit):
                label_requests.put_answer(
                    unit.connection,
                    platform_run_id=asserted.platform_run_id,
                    request_id=asserted.request_id,
                    flow_id=asserted.flow_id,
                    asked_by=asserted.asked_by,
                    answer=self._answer(asserted, unit),
                    at=unit.now,
                )

    def _answer(self, asserted: Asserted, unit: UnitOfWork) -> LabelAnswer:
        run, flow = asserted.platform_run_id, asserted.flow_id
        with self._beside(unit.connection) as at:
            occurred_at = times_of_flows(at("DF_REPLAY_DSN"), run, [flow]).get(flow)
        refused = why_refused(asserted, occurred_at=occurred_at, now=unit.now)
        if refused is not None or occurred_at is None:
            return LabelAnswer("REFUSED", refused or "", None)
        body = label_of(asserted, occurred_at=occurred_at, recorded_at=unit.now_text)
        source_ref = f"{SOURCE_REF}{asserted.request_id}"
        if labels.add(unit.connection, [SourcedAssertion(body, source_ref, asserted.request_id)], at=unit.now):
            unit.publish("labels", key=flow, event_id=body["label_id"], platform_run_id=run, body=orjson.dumps(body))
        return LabelAnswer("APPLIED", "", body["label_id"])


def _asserted(body: dict[str, Any]) -> Asserted | None:
    """What a record asks for; other requests on `control` are for others."""
    return asserted_of(body) if body["kind"] == REQUESTED else None


def _answered(asserted: Asserted, unit: UnitOfWork) -> bool:
    return label_requests.answer_to(unit.connection, asserted.platform_run_id, asserted.request_id) is not None
