"""Asks the run_reporter for a report and waits for its evidence; renders it for a person."""

from __future__ import annotations

from typing import Any

import orjson

from fraud_daemons.bootstrap import operator_bus
from fraud_daemons.bus.port import OutRecord
from fraud_daemons.clock import Clock, iso
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state import reports

LOOK_EVERY_SECONDS = 0.1


def request_report(database: Database, *, platform_run_id: str, clock: Clock) -> str:
    """Put a request on the control topic; its id."""
    requested_at = iso(clock.now())
    request_id = derived_id("report", platform_run_id, requested_at)
    body = {
        "kind": "REPORT_REQUESTED",
        "request_id": request_id,
        "platform_run_id": platform_run_id,
        "requested_at": requested_at,
    }
    with operator_bus(database).transaction() as log:
        log.append([OutRecord("control", platform_run_id, request_id, platform_run_id, orjson.dumps(body))])
    return request_id


def wait_for_report(
    database: Database, *, platform_run_id: str, request_id: str, clock: Clock, timeout_seconds: float
) -> dict[str, Any]:
    """The report, once its evidence is written. Raises CommandError when the reporter does not answer in time."""
    deadline = clock.monotonic() + timeout_seconds
    stop = StopRequest()
    while clock.monotonic() < deadline:
        try:
            with database.scope() as connection:
                report = reports.finished(connection, platform_run_id=platform_run_id, request_id=request_id)
        except TransientFault:
            report = None  # the database restarts under us; the request is on the bus and stays
        if report is not None:
            document: dict[str, Any] = orjson.loads(report.body)
            return {**document, "evidence": {"object_key": report.object_key, "sha256": report.sha256}}
        stop.rest(LOOK_EVERY_SECONDS)
    raise CommandError(
        f"no report after {timeout_seconds:.0f} s: the run_reporter did not answer; see: platform status -v,"
        " platform logs run_reporter; the request stays and will be answered",
        exit_code=ExitCode.UNKNOWN,
    )


def render_report(document: dict[str, Any]) -> str:
    """The report for a person: outputs, stages, every equation on one line, terms, verdict."""
    lines = [f"run {document['platform_run_id']}"]
    lines += _outputs(document["outputs"])
    lines.append("stages   " + "  ".join(f"{stage} {count}" for stage, count in document["stages"].items()))
    latency = document.get("latency_ms") or {}
    if latency.get("p50") is not None:
        lines.append(
            f"latency  last part admitted to decision: p50 {latency['p50']} ms  p95 {latency['p95']} ms  p99 {latency['p99']} ms"
        )
    lines.append("")
    for equation in document["equations"]:
        good = equation["missing"] == 0 and equation["surplus"] == 0
        trouble = "" if good else f"  missing {equation['missing']}  surplus {equation['surplus']}"
        lines.append(f"  {'ok  ' if good else 'FAIL'} {equation['name']:<40} {equation['count']:>8}{trouble}")
        lines += [f"         {example}" for example in equation["examples"]]
    terms = {name: count for name, count in document["terms"].items() if count}
    lines += ["", "terms    " + ("  ".join(f"{name} {count}" for name, count in terms.items()) or "none")]
    lines.append(f"verdict  {document['verdict']}")
    return "\n".join(lines)


def _outputs(outputs: dict[str, Any]) -> list[str]:
    return [
        f"{name:<17} sent {o['sent']:>7}  admitted {o['admitted']:>7}  duplicate {o['duplicate']:>6}"
        f"  quarantined {o['quarantined']:>5}  {o.get('stop_reason') or ''}".rstrip()
        for name, o in outputs.items()
    ]
