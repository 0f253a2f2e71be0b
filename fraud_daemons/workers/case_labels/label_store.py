"""label_store: what became known, when. The truth feed, resolved cases and what people assert (`_label_requests`) become
assertions; nothing is ever changed.

A correction is another assertion that supersedes the first; both stay readable. The truth feed's progress marks are
forwarded on `labels` behind the labels they cover: under the record's own key, which leads to the same partition of
`labels` as the flow ids it speaks for (both topics are made with the same number of partitions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.cases import EntryKind
from fraud_daemons.domain.envelope import PROGRESS_MARK, TRUTH
from fraud_daemons.domain.labels import assertion_from_truth, assertions_from_resolution
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import labels
from fraud_daemons.state.labels import SourcedAssertion, SourcedMark
from fraud_daemons.workers.case_labels._bodies import made_from
from fraud_daemons.workers.case_labels._label_requests import LabelRequests


class LabelStore(StatelessHandler):
    """Stores assertions and passes on what is new, in the order of the records."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        """One insert of assertions and one of marks per batch; then both go out, interleaved as they came."""
        recorded_at = unit.now_text
        items = [(record, item) for record in records for item in _items(record, recorded_at)]
        assertions = [item for _, item in items if isinstance(item, SourcedAssertion)]
        marks = [item for _, item in items if isinstance(item, SourcedMark)]
        new = labels.add(unit.connection, assertions, at=unit.now) | labels.add_marks(
            unit.connection, marks, at=unit.now
        )
        for record, item in items:
            if item.key in new:
                new.discard(item.key)  # a second one in the same batch is a repeat
                _publish(record, item, unit)


def _items(record: Record, recorded_at: str) -> list[SourcedAssertion | SourcedMark]:
    def make(body: dict[str, Any]) -> list[SourcedAssertion | SourcedMark]:
        return (
            _from_truth(record, body, recorded_at) if record.topic == TRUTH else _from_case(record, body, recorded_at)
        )

    return made_from(record, make)


def _from_truth(record: Record, event: dict[str, Any], recorded_at: str) -> list[SourcedAssertion | SourcedMark]:
    if event["event_type"] == PROGRESS_MARK:
        return [SourcedMark(event["pins"]["platform_run_id"], event["event_id"], record.partition, event["payload"])]
    source_ref = f"truth:{event['payload']['correction']}"
    return [SourcedAssertion(assertion_from_truth(event, recorded_at=recorded_at), source_ref, event["event_id"])]


def _from_case(record: Record, entry: dict[str, Any], recorded_at: str) -> list[SourcedAssertion | SourcedMark]:
    """The labels of a resolution; other case events say nothing about a flow."""
    if entry["kind"] != EntryKind.RESOLVED:
        return []
    source_ref = f"{entry['case_id']}:{entry['entry']}"
    found = assertions_from_resolution(entry, recorded_at=recorded_at)
    return [SourcedAssertion(assertion, source_ref, record.event_id) for assertion in found]


def _publish(record: Record, item: SourcedAssertion | SourcedMark, unit: UnitOfWork) -> None:
    if isinstance(item, SourcedMark):
        key, event_id, body = record.key, item.event_id, record.body
    else:
        key, event_id, body = item.body["flow_id"], item.body["label_id"], orjson.dumps(item.body)
    unit.publish("labels", key=key, event_id=event_id, platform_run_id=item.platform_run_id, body=body)


def build(context: WorkerContext) -> list[Activity]:
    """A consumer of what becomes known by itself, and one of what people assert."""
    return [
        context.consumer(LabelStore(), topics=(TRUTH, "case_events")),
        context.consumer(
            LabelRequests(context.beside), topics=("control",), name="label_store.requests", from_what_is_left=True
        ),
    ]


WORKER = Worker(
    name="label_store",
    schema="label_store",
    dsn="LABEL_STORE_LOCATOR",
    build=build,
    keeps_plans=True,
    consumes=(TRUTH, "case_events", "control"),
    publishes=("labels",),
    equations=(
        "truth_equals_labels",
        "dispositions_equal_human_labels",
        "assertions_equal_asserted_labels",
        "labels_equal_published",
    ),
)
