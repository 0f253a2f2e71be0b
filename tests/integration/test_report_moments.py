"""The run report in bad moments: asked while records still flow, or when somebody has written where it wants to go."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fraud_daemons.acceptance.reporting import render_report, wait_for_report
from fraud_daemons.clock import SystemClock
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.evidence.keys import report_key
from fraud_daemons.workers.case_labels.case_trigger import WORKER as CASE_TRIGGER
from tests.integration.whole_line import ask_for_report, reporter
from tests.line import Line


def test_a_report_asked_while_records_flow_says_so(line: Line) -> None:
    """The document names the stage and by how much, and so does the screen; when it is through, nobody mentions it."""
    line.run = "platform_19970102T000000Z"
    line.begin_run()
    trigger = line.activities(CASE_TRIGGER)
    line.drain(trigger)
    decision = {"decision_id": "d1", "flow_id": "f1", "platform_run_id": line.run, "outcome": "ALLOW"}
    line.append("decisions", [decision], event_id=lambda body: body["decision_id"])
    early = ask_for_report(line, reporter(line))
    assert early is not None
    assert early["caught_up"] is False
    assert early["behind"] == [{"stage": "case_trigger", "what": "decisions", "records": 1}]
    assert "still flowing: case_trigger is 1 behind on decisions" in render_report(early)
    line.drain(trigger)
    late = ask_for_report(line, reporter(line), 2)
    assert late is not None
    assert (late["caught_up"], late["behind"]) == (True, [])
    assert "still flowing" not in render_report(late)


def test_a_conflict_takes_one_report_and_not_the_reporter(line: Line, short_dir: Path) -> None:
    """The report that meets other bytes is set aside and its caller is told where; the next one is written."""
    line.run = "platform_19970103T000000Z"
    line.begin_run()
    request_id = derived_id("report", line.run, "1")
    key = report_key(platform_run_id=line.run, request_id=request_id)
    line.make_store().put_once(key, b"forged", sha256=hashlib.sha256(b"forged").hexdigest())
    assert ask_for_report(line, reporter(line)) is None
    assert line.sql("select state, object_key from reporter.reports") == [("CONFLICT", key)]
    assert line.make_store().get(key) == b"forged"
    with pytest.raises(CommandError, match=f"^evidence conflict at {key}") as caught:
        wait_for_report(
            line.database,
            platform_run_id=line.run,
            request_id=request_id,
            beats=short_dir,
            clock=SystemClock(),
            timeout_seconds=5,
        )
    assert caught.value.exit_code == ExitCode.NO
    following = ask_for_report(line, reporter(line), 2)
    assert following is not None
    [line_of_reports] = [e for e in following["equations"] if e["name"] == "reports_equal_report_objects"]
    assert line_of_reports["examples"] == [f"surplus not evidence: {key}"]
