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
from tests.gate import admit_everything
from tests.integration.whole_line import BEHIND_THE_GATE, ask_for_report, finish, reporter, stream_the_world, whole_run
from tests.line import ROOT, Line

BESIDE = {
    "degrade_ladder": "test_degrade_ladder.py",
    "environment_conformance": "test_environment_conformance.py",
    "console": "../system/test_console.py",
}
"""Workers that watch the line and read no topic: what turns red without them stands in a file of its own."""

ALL = [load_worker(pack.name, name) for pack in load_packs(ROOT) for name in pack.workers]
WORKERS = [worker for worker in ALL if worker.name not in BESIDE]


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
    finish(line, replaced=worker)
    silent = worker is run_reporter.WORKER
    return worker, last_report(line, lambda: line.pass_through(worker) if silent else reporter(line))


def test_every_worker_of_the_packs_is_in_the_line() -> None:
    """Gate and producer, what works behind the gate, and the reporter; each names lines of the report. A worker beside the
    line reads no topic, and has its own red counterpart."""
    ends = (ingestion_gate.WORKER, world_stream_producer.WORKER, run_reporter.WORKER)
    assert {worker.name for worker in WORKERS} == {worker.name for worker in (*ends, *BEHIND_THE_GATE)}
    assert all(worker.equations for worker in WORKERS)
    for worker in ALL:
        if worker.name in BESIDE:
            assert not worker.consumes
            assert "pass-through" in (Path(__file__).parent / BESIDE[worker.name]).read_text().lower()


def test_with_honest_workers_every_row_holds(line: Line, short_dir: Path) -> None:
    """Nobody is replaced: no worker's row has anything wrong with it."""
    whole_run(line, short_dir)
    report = last_report(line, lambda: reporter(line))
    assert {worker.name: row_problems(report, worker) for worker in ALL} == {worker.name: [] for worker in ALL}


@pytest.mark.parametrize("replaced", WORKERS, indirect=True, ids=lambda worker: worker.name)
def test_a_worker_that_only_advances_its_checkpoint_fails_its_row(
    replaced: tuple[Worker, dict[str, Any] | None],
) -> None:
    """It has read its whole input and stands at the heads, and still its own row of the report is red."""
    worker, report = replaced
    assert row_problems(report, worker), f"{worker.name} does nothing, and nobody sees it"
    assert report is None or report["verdict"] == "FAIL"
