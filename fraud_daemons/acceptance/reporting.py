"""Asks the run_reporter for a report and waits for its evidence; renders it for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.acceptance.progress import refuse_held
from fraud_daemons.bootstrap import operator_bus
from fraud_daemons.bus.port import OutRecord
from fraud_daemons.clock import Clock, iso
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state import reports

LOOK_EVERY_SECONDS = 0.1
STAGES = (
    "bound", "featured", "decided", "intents", "outcomes", "audited", "triggers", "cases_opened", "cases_merged", "labels",
)  # fmt: skip
"""In the order of the line."""


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
    database: Database, *, platform_run_id: str, request_id: str, beats: Path, clock: Clock, timeout_seconds: float
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
        refuse_held(beats)
        stop.rest(LOOK_EVERY_SECONDS)
    raise CommandError(
        f"no report after {timeout_seconds:.0f} s: the run_reporter did not answer; see: platform status -v,"
        " platform logs run_reporter; the request stays and will be answered",
        exit_code=ExitCode.UNKNOWN,
    )


def render_report(document: dict[str, Any]) -> str:
    """The report for a person: outputs, stages, every equation on one line, terms, verdict."""
    return "\n".join(
        [
            f"run {document['platform_run_id']}",
            *render_outputs(document),
            "",
            *_equations(document),
            "",
            *render_verdict(document),
        ]
    )


def render_outputs(document: dict[str, Any]) -> list[str]:
    """What was sent and how it was answered, one line per output, the truth feed beside the four."""
    rows = {**{name: document["outputs"][name] for name in OUTPUTS}, "truth": document["truth"]}
    lines = [f"{'':<18}{'sent':>9}{'admitted':>10}{'duplicate':>11}{'quarantined':>13}  stopped by"]
    for name, tally in rows.items():
        figures = f"{tally['sent']:>9,}{tally['admitted']:>10,}{tally['duplicate']:>11,}{tally['quarantined']:>13,}"
        lines.append(f"{name:<18}{figures}  {tally.get('stop_reason') or ''}".rstrip())
    return lines


def render_verdict(document: dict[str, Any]) -> list[str]:
    """Stages, latency, terms, what does not balance, verdict."""
    lines = ["stages   " + "  ".join(f"{stage} {document['stages'].get(stage, 0)}" for stage in STAGES)]
    latency = document.get("latency_ms") or {}
    if latency.get("p50") is not None:
        lines.append(
            f"latency  last part admitted to decision: p50 {latency['p50']} ms  p95 {latency['p95']} ms  p99 {latency['p99']} ms"
        )
    terms = {name: count for name, count in document["terms"].items() if count}
    lines.append("terms    " + ("  ".join(f"{name} {count}" for name, count in terms.items()) or "none"))
    equations = document["equations"]
    good = sum(1 for equation in equations if _balanced(equation))
    empty = (
        "" if any(equation["count"] for equation in equations) else "; the run holds nothing yet, which proves nothing"
    )
    lines.append(f"verdict  {document['verdict']}: {good} of {len(equations)} equations hold, by ids{empty}")
    return lines + [line for equation in equations if not _balanced(equation) for line in _equation(equation)]


def _equations(document: dict[str, Any]) -> list[str]:
    return [line for equation in document["equations"] for line in _equation(equation)]


def _equation(equation: dict[str, Any]) -> list[str]:
    word = "ok  " if _balanced(equation) else "FAIL"
    trouble = "" if _balanced(equation) else f"  missing {equation['missing']}  surplus {equation['surplus']}"
    return [
        f"  {word} {equation['name']:<40} {equation['count']:>9,}{trouble}",
        *(f"         {example}" for example in equation["examples"]),
    ]


def _balanced(equation: dict[str, Any]) -> bool:
    return not equation["missing"] and not equation["surplus"]
