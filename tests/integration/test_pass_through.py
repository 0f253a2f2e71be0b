"""Each worker in turn is replaced by one that reads everything and does nothing: that worker's row must fail.

A row is what the run report says on the lines that a worker names as its own (`Worker.equations`). A worker that is new in
a pack is taken up here by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.bootstrap import load_worker
from fraud_daemons.config.packs import load_packs
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.worker import Worker
from fraud_daemons.workers.control_ingress import ingestion_gate, world_stream_producer
from fraud_daemons.workers.control_ingress._gate_intake import Intake
from fraud_daemons.workers.obs_gov import run_reporter
from tests.integration.whole_line import BEHIND_THE_GATE, ask_for_report, reporter, settle, stream_the_world
from tests.line import ROOT, Line

WORKERS = [load_worker(pack.name, name) for pack in load_packs(ROOT) for name in pack.workers]


def row_problems(report: dict[str, Any] | None, worker: Worker) -> list[str]:
    """What is wrong with a worker's row: a line that is not there, compares nothing, or does not balance."""
    if report is None:
        return ["no report"]
    lines = {equation["name"]: equation for equation in report["equations"]}
    wrong = []
    for name in worker.equations:
        line = lines.get(name)
        if line is None or line["count"] == 0:
            wrong.append(f"{name} compares nothing")
        elif line["missing"] or line["surplus"]:
            wrong.append(f"{name}: {line['missing']} missing, {line['surplus']} surplus")
    return wrong


def last_report(line: Line, activities: Callable[[], list[Activity]]) -> dict[str, Any] | None:
    """The second report of the run: the first one is something that the reporter's own line can count."""
    ask_for_report(line, activities(), 1)
    return ask_for_report(line, activities(), 2)


@pytest.fixture
def replaced(request: pytest.FixtureRequest, line: Line, short_dir: Path) -> tuple[Worker, dict[str, Any] | None]:
    """The line as it ends with one worker replaced, and the report about it."""
    worker: Worker = request.param
    with pytest.MonkeyPatch.context() as patch:
        if worker is ingestion_gate.WORKER:
            patch.setattr(Intake, "admit", admit_everything)
        stream_the_world(line, short_dir, producing=worker is not world_stream_producer.WORKER)
    for stage in BEHIND_THE_GATE:
        if stage is worker:
            line.drain(line.pass_through(stage))
        else:
            settle(line, stage)
    silent = worker is run_reporter.WORKER
    return worker, last_report(line, lambda: line.pass_through(worker) if silent else reporter(line))


def admit_everything(_gate: Intake, items: Any, _principal: Any) -> list[dict[str, Any]]:
    """A gate that reads no topic passes through by saying yes and keeping nothing."""
    return [{"event_id": item.value["event_id"], "status": "ADMITTED", "receipt": {}} for item in items]


def test_every_worker_of_the_packs_is_in_the_line() -> None:
    """Eleven workers: gate and producer, what works behind the gate, and the reporter. Each names lines of the report."""
    ends = (ingestion_gate.WORKER, world_stream_producer.WORKER, run_reporter.WORKER)
    assert {worker.name for worker in WORKERS} == {worker.name for worker in (*ends, *BEHIND_THE_GATE)}
    assert len(WORKERS) == 11
    assert all(worker.equations for worker in WORKERS)


def test_with_honest_workers_every_row_holds(line: Line, short_dir: Path) -> None:
    """Nobody is replaced: no worker's row has anything wrong with it."""
    stream_the_world(line, short_dir)
    for worker in BEHIND_THE_GATE:
        settle(line, worker)
    report = last_report(line, lambda: reporter(line))
    assert {worker.name: row_problems(report, worker) for worker in WORKERS} == {worker.name: [] for worker in WORKERS}


@pytest.mark.parametrize("replaced", WORKERS, indirect=True, ids=lambda worker: worker.name)
def test_a_worker_that_only_advances_its_checkpoint_fails_its_row(
    replaced: tuple[Worker, dict[str, Any] | None],
) -> None:
    """It has read its whole input and stands at the heads, and still its own row of the report is red."""
    worker, report = replaced
    assert row_problems(report, worker), f"{worker.name} does nothing, and nobody sees it"
    assert report is None or report["verdict"] == "FAIL"
