"""Governance events: each deed becomes one evidence object of its run, whoever did it and whatever is killed meanwhile."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud_daemons.clock import iso
from fraud_daemons.errors import TransientFault
from fraud_daemons.state import governance, runs
from fraud_daemons.state.governance import Kind
from fraud_daemons.workers.obs_gov.run_reporter import WORKER
from tests.line import Line


def objects(line: Line, run: str) -> list[dict[str, Any]]:
    """The run's governance objects in the order of their keys."""
    store = line.make_store()
    return [orjson.loads(store.get(found.key)) for found in store.list(f"{run}/gov/")]


def begin(line: Line, *, seconds: int) -> str:
    line.clock.advance(seconds)
    with line.database.scope() as connection:
        return runs.begin(connection, at=line.clock.now(), live=False, note="", by="ada").platform_run_id


def test_a_run_that_begins_ends_the_one_before_and_both_are_evidence(line: Line) -> None:
    """RUN_STARTED of each, RUN_ENDED of the first, each below its own run and by whose hand."""
    first, second = begin(line, seconds=1), begin(line, seconds=5)
    line.work(WORKER)
    assert [(o["kind"], o["subject"], o["by"]) for o in objects(line, first)][-2:] == [
        ("RUN_STARTED", first, "ada"),
        ("RUN_ENDED", first, "ada"),
    ]
    [started] = objects(line, second)
    assert started["kind"] == "RUN_STARTED"
    assert started["detail"]["sessions"] > 0, "what the server had opened by then"


def test_a_deed_told_twice_is_one_event_and_a_lost_answer_one_object(line: Line) -> None:
    """The same deed at the same time has one id; a put whose answer is lost is repeated with the same bytes."""
    run = begin(line, seconds=3)
    deed = {"subject": "client", "by": "ada", "at": line.clock.now(), "detail": {"keys": 2}}
    with line.database.scope() as connection:
        ids = {governance.record(connection, Kind.KEY_ROTATED, **deed) for _ in range(2)}
    assert len(ids) == 1
    reporting = line.activities(WORKER)[1]
    settle = governance.settle
    try:
        governance.settle = lost_answer  # type: ignore[assignment]
        with pytest.raises(TransientFault):
            reporting.step()
    finally:
        governance.settle = settle
    line.work(WORKER)
    rotated = [found for found in objects(line, run) if found["kind"] == "KEY_ROTATED"]
    assert [(found["subject"], found["detail"]) for found in rotated] == [("client", {"keys": 2})]
    assert line.sql("select count(*) from reporter.governance_objects where state <> 'COMPLETE'") == [(0,)]


def lost_answer(*_: Any, **__: Any) -> None:
    raise TransientFault("the database went away after the put", reason="postgres: connection lost")


def test_a_held_worker_is_written_down_once_over_restarts_and_rotation(line: Line) -> None:
    """From the supervisor's audit: a configuration exit and a hold, not a kill; a reporter that starts anew adds nothing."""
    run = begin(line, seconds=3)
    audit: Path = line.context_for(WORKER).profile.path("events.ndjson")
    at = line.clock.now()
    records = [
        {"at": iso(at - timedelta(days=1)), "worker": "old", "kind": "exit", "cause": "configuration", "pid": 1},
        {"at": iso(at), "worker": "action_layer", "kind": "exit", "cause": "configuration", "pid": 2, "exit_code": 78},
        {"at": iso(at), "worker": "label_store", "kind": "exit", "cause": "signal", "pid": 3},
        {"at": iso(at), "worker": "case_trigger", "kind": "held", "cause": "crash_loop", "pid": 4},
    ]
    audit.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"at": "torn')
    line.work(WORKER)
    audit.rename(audit.with_suffix(".1"))
    audit.write_text(json.dumps(records[1]) + "\n")
    line.work(WORKER)
    held = [found for found in objects(line, run) if found["kind"] == "WORKER_HELD"]
    assert sorted(found["subject"] for found in held) == ["action_layer", "case_trigger"]
    assert next(found for found in held if found["subject"] == "action_layer")["detail"]["exit_code"] == 78
