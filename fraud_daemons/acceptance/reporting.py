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
from fraud_daemons.state.progress import Behind

LOOK_EVERY_SECONDS = 0.1
STAGES_SHOWN_MAX = 3
STAGES = (
    "bound", "featured", "decided", "intents", "outcomes", "audited", "triggers", "cases_opened", "cases_merged", "labels",
)  # fmt: skip
"""In the order of the line."""


def request_report(database: Database, *, platform_run_id: str, clock: Clock) -> str:
    """Put a request on the control topic; its id. `database` = the bus's, EVENT_BUS_DSN."""
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
    asked = {"platform_run_id": platform_run_id, "request_id": request_id}
    while clock.monotonic() < deadline:
        report, conflict = None, None
        try:
            with database.scope() as connection:
                report = reports.finished(connection, **asked)
                conflict = reports.conflict_key(connection, **asked) if report is None else None
        except TransientFault:
            pass  # the database restarts under us; the request is on the bus and stays
        if conflict is not None:
            raise CommandError(
                f"evidence conflict at {conflict}: an object with other bytes stands there and was not overwritten;"
                " find who wrote it, then ask for another report",
                exit_code=ExitCode.NO,
            )
        if report is not None:
            document: dict[str, Any] = orjson.loads(report.body)
            page = {"page_key": report.page_key, "page_sha256": report.page_sha256}
            return {**document, "evidence": {"object_key": report.object_key, "sha256": report.sha256, **page}}
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
    """Stages, latency, terms, what still flows, verdict, what does not balance."""
    lines = ["stages   " + "  ".join(f"{stage} {document['stages'].get(stage, 0)}" for stage in STAGES)]
    latency = document.get("latency_ms") or {}
    if latency.get("p50") is not None:
        lines.append(
            f"latency  last part admitted to decision: p50 {latency['p50']} ms  p95 {latency['p95']} ms  p99 {latency['p99']} ms"
        )
    lines += _around(document)
    terms = {name: count for name, count in document["terms"].items() if count}
    lines.append("terms    " + ("  ".join(f"{name} {count}" for name, count in terms.items()) or "none"))
    lines += _flowing(document)
    equations = document["equations"]
    good = sum(1 for equation in equations if _balanced(equation))
    empty = (
        "" if any(equation["count"] for equation in equations) else "; the run holds nothing yet, which proves nothing"
    )
    lines.append(f"verdict  {document['verdict']}: {good} of {len(equations)} equations hold, by ids{empty}")
    return lines + [line for equation in equations if not _balanced(equation) for line in _equation(equation)]


def _around(document: dict[str, Any]) -> list[str]:
    """Deaths, faults and sessions; nothing where the report is of an earlier version."""
    if "restarts" not in document:
        return []
    unasked = {
        worker: sum(count for cause, count in causes.items() if cause not in ("operator", "shutdown"))
        for worker, causes in document["restarts"].items()
    }
    died = [f"{worker} died {count}" for worker, count in unasked.items() if count]
    faults = [f"{worker} contained {sum(told.values())}" for worker, told in document["faults_contained"].items()]
    opened = document["sessions_opened"]
    sessions = [] if opened is None else [f"{opened} database sessions opened"]
    return ["around   " + "  ".join([*(died or ["nobody died"]), *(faults or ["no fault contained"]), *sessions])]


def _flowing(document: dict[str, Any]) -> list[str]:
    """Which stages were not through when the stores were compared: then a difference may be only a matter of moments."""
    if document.get("caught_up", True):  # a reporter of an earlier version does not say
        return []
    stages = [str(Behind(**stage)) for stage in document["behind"]]
    more = f"; and {len(stages) - STAGES_SHOWN_MAX} more" if len(stages) > STAGES_SHOWN_MAX else ""
    return [f"still flowing: {'; '.join(stages[:STAGES_SHOWN_MAX])}{more}; ask again when they are through"]


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
