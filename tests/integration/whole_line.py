"""A small run that went the whole way: a sealed world over HTTP through every worker of the line, and reports about it.

`whole_run` leaves a run whose every equation holds; `ask_for_report` lets a reporter work and gives what it wrote.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.clock import parse_iso
from fraud_daemons.domain import label_assertions
from fraud_daemons.domain.case_changes import request
from fraud_daemons.domain.cases import Disposition, EntryKind
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.worker import Worker
from fraud_daemons.state import governance
from fraud_daemons.workers.case_labels import case_management, case_trigger, label_store
from fraud_daemons.workers.control_ingress import world_stream_producer
from fraud_daemons.workers.control_ingress.ingestion_gate import WORKER as GATE
from fraud_daemons.workers.decision_lane import action_layer, decision_fabric, decision_log_audit
from fraud_daemons.workers.obs_gov.run_reporter import WORKER as REPORTER
from fraud_daemons.workers.rtdl_core import (
    archive_writer,
    context_store_flow_binding,
    identity_entity_graph,
    online_feature_plane,
)
from fraud_daemons.worlds.generator import make_world
from tests.gate import Gate, open_gate, prepare
from tests.line import AdvanceOnly, Line
from tests.producing import OTHER_WORKERS, ask, work_until_ended, write_beat

TRANSACTIONS = 120
BEHIND_THE_GATE = (
    context_store_flow_binding.WORKER,
    label_store.WORKER,
    online_feature_plane.WORKER,
    identity_entity_graph.WORKER,
    decision_fabric.WORKER,
    action_layer.WORKER,
    decision_log_audit.WORKER,
    case_trigger.WORKER,
    case_management.WORKER,
    archive_writer.WORKER,
)
"""In the order of the line; labels before the features that wait for them, the archive
last, for it reads what all the others publish."""


def whole_run(line: Line, run_dir: Path) -> Line:
    """The tiny world through every worker, and two events refused; the line's run is then one of its own."""
    stream_the_world(line, run_dir)
    finish(line)
    _read_what_was_asked_last(line)
    return line


def stream_the_world(line: Line, run_dir: Path, *, producing: bool = True) -> None:
    """Producer, gate and its evidence; nothing behind the gate has worked yet. Object stores outlive a test: a new run.

    Without `producing` the producer only moves its checkpoint."""
    line.run = f"platform_20260101T{uuid.uuid4().int % 10**6:06}Z"
    prepare(line)
    for worker in OTHER_WORKERS:
        write_beat(run_dir, worker)
    make_world(run_dir / "worlds", name="tiny", transactions=TRANSACTIONS, seed=7, currency="USD")
    ask(line, 1, run=line.run)
    with open_gate(line) as gate:
        if producing:
            work_until_ended(line, line.activities(world_stream_producer.WORKER))
        else:
            line.drain(line.pass_through(world_stream_producer.WORKER))
        _be_refused(line, gate)
        for _ in range(2):  # a sealer that lingers looks idle
            line.drain(gate.activities[1:], advance_seconds=2.0)


def finish(line: Line, *, replaced: Worker | None = None, settings: Mapping[str, Any] | None = None) -> None:
    """Every worker behind the gate, in the order of the line, until nothing is left to do; under an operator's pin, and
    with two cases resolved. `replaced` reads everything and does nothing."""
    line.sql(
        "insert into control.posture_pins (mode, reason, pinned_by, pinned_at)"
        " values ('NORMAL', 'nothing degrades here', 'test', '2026-01-01T00:00:00Z')"
    )
    govern(line)
    for _ in range(3):  # cases are resolved; their labels are made; the labels go back to the feature plane
        for worker in BEHIND_THE_GATE:
            if worker is replaced:
                line.drain(line.pass_through(worker))
            else:
                settle(line, worker, settings=settings)
        resolve_cases(line)
        assert_labels(line)


def _read_what_was_asked_last(line: Line) -> None:
    """Whoever reads `control` passes the last requests, which are repeats or not for him."""
    line.drain([line.context_for(GATE).consumer(AdvanceOnly(), topics=("control",), name="ingestion_gate.redrives")])
    line.drain(line.pass_through(world_stream_producer.WORKER))
    for worker in (label_store.WORKER, case_management.WORKER, archive_writer.WORKER):
        settle(line, worker)


def govern(line: Line) -> None:
    """Two deeds of people, written down for the run."""
    with line.database.scope() as connection:
        for subject in ("client", "world_stream_producer"):
            governance.record(
                connection, governance.Kind.KEY_ROTATED, subject=subject, by="ada", at=line.clock.now(),
                platform_run_id=line.run,
            )  # fmt: skip


def settle(line: Line, worker: Worker, *, settings: Mapping[str, Any] | None = None) -> None:
    """A worker does all there is to do, and seals at once."""
    line.work(worker, settings={"evidence.linger_seconds": 0.0, **(settings or {})})


def assert_labels(line: Line, count: int = 2) -> None:
    """Ask for a label of the first flows by id, by an outside source; asked again it is the same request."""
    flows = line.sql(
        "select flow_id, to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from df.decisions"
        " where platform_run_id = %s order by flow_id limit %s",
        (line.run, count),
    )
    for flow_id, occurred_at in flows:
        # the generated world may lie ahead of the test's clock, and nothing is known before it happens
        line.clock.advance(max(0.0, (parse_iso(occurred_at) - line.clock.now()).total_seconds()))
        body = label_assertions.request(
            platform_run_id=line.run, flow_id=flow_id, label_type="chargeback_status", value="OPENED", fraud_type=None,
            source="EXTERNAL", observed_time=occurred_at, effective_time=None, asked_by="ada",
        )  # fmt: skip
        line.append("control", [body], key=lambda body: body["flow_id"], event_id=lambda body: body["request_id"])


def resolve_cases(line: Line, count: int = 2) -> None:
    """Ask for the first cases by id to be resolved as fraud; asked twice it is the same request."""
    cases = line.sql(
        "select case_id, array_agg(distinct body ->> 'flow_id') from case_mgmt.timeline where platform_run_id = %s"
        " and kind in ('OPENED', 'MERGED') group by case_id order by case_id limit %s",
        (line.run, count),
    )
    for case_id, flows in cases:
        times = line.sql(
            "select flow_id, to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from df.decisions"
            " where platform_run_id = %s and flow_id = any(%s) order by flow_id",
            (line.run, flows),
        )
        body = request(
            platform_run_id=line.run, case_id=case_id, kind=EntryKind.RESOLVED, actor="ada",
            at="2030-01-01T00:00:00.000000Z", expected_version=None, disposition=Disposition.FRAUD, flows=tuple(times),
        )  # fmt: skip
        line.append("control", [body], key=lambda _, key=case_id: key, event_id=lambda body: body["request_id"])


def _be_refused(line: Line, gate: Gate) -> None:
    """Known ids with another content: quarantined, and no event of the world is missing by it."""
    known = [body for body in line.bodies("traffic") if body["event_type"] == "traffic"][:3]
    if known:
        answers = gate.post([{**body, "payload": {**body["payload"], "amount_minor": 1}} for body in known])
        assert answers.statuses == ["QUARANTINED"] * 3


def reporter(line: Line) -> list[Activity]:
    """The worker as a new process has it."""
    return line.activities(REPORTER)


def ask_for_report(line: Line, activities: Sequence[Activity], ordinal: int = 1) -> dict[str, Any] | None:
    """Ask for a report, let the activities work: the report whose evidence is written, or None."""
    request_id = derived_id("report", line.run, str(ordinal))
    line.append(
        "control",
        [{"kind": "REPORT_REQUESTED", "request_id": request_id, "platform_run_id": line.run,
          "requested_at": f"2026-01-01T00:00:{ordinal:02}.000000Z"}],
        event_id=lambda body: body["request_id"],
    )  # fmt: skip
    line.drain(activities)
    return written_report(line, request_id)


def written_report(line: Line, request_id: str) -> dict[str, Any] | None:
    """What the ledger calls complete, after a look at the object itself."""
    rows = line.sql("select body, object_key from reporter.reports where request_id = %s and state = 'COMPLETE'", (request_id,))  # fmt: skip
    if not rows:
        return None
    [(body, key)] = rows
    assert line.make_store().get(key) == bytes(body), "the object is not the report"
    document: dict[str, Any] = orjson.loads(body)
    return document
