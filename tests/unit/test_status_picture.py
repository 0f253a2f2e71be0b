"""The picture: readiness is process state AND heartbeat, the verdict is the worst, one cause is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_daemons.clock import ManualClock
from fraud_daemons.observability.disk import DiskUse
from fraud_daemons.observability.heartbeat import Heartbeat, HeartbeatFile, WorkerState
from fraud_daemons.observability.process_identity import ProcessIdentity, identity_of
from fraud_daemons.status.picture import (
    WORST_LAST,
    PlatformPicture,
    ProcessState,
    ServicePicture,
    age_text,
    draw_picture,
    judge_disk,
    judge_worker,
    narrowed,
    worst,
)
from fraud_daemons.status.rendering import coloured, render

ME = identity_of(os.getpid())
NOW = 1000.0


def _beat(
    state: WorkerState = "ready", *, reason: str | None = None, age: float = 0.5, process: ProcessIdentity = ME, **facts
) -> Heartbeat:
    return Heartbeat(
        worker="alpha", pack="core", pid=process.pid, start_ticks=process.start_ticks, boot_id=process.boot_id,
        beat_monotonic=NOW - age, beat_at="", state=state, reason=reason, since_monotonic=NOW - 14.0, since="", **facts,
    )  # fmt: skip


def _judged(process: ProcessState, beat: Heartbeat | None):
    return judge_worker(process, beat, now_monotonic=NOW, beat_age_seconds_max=12.0)


def _running(**facts) -> ProcessState:
    return ProcessState("alpha", "core", "running", **{"pid": ME.pid, "uptime_seconds": 60.0, **facts})


def test_ready_needs_process_and_heartbeat() -> None:
    """A running process whose own young heartbeat says ready is running ready, with its progress and memory."""
    worker = _judged(_running(), _beat(lag_records=3))
    assert (worker.status, worker.ready, worker.reason) == ("running ready", True, None)
    assert worker.lag_records == 3
    assert worker.beat_age_seconds == 0.5
    assert worker.rss_bytes > 1_000_000


def test_a_pid_alone_is_never_ready() -> None:
    """Without a heartbeat a young process is starting and an older one failing, whatever the supervisor says."""
    assert _judged(_running(uptime_seconds=2.0), None).status == "running starting"
    old = _judged(_running(uptime_seconds=60.0), None)
    assert (old.status, old.reason) == ("running failing", "no heartbeat yet")


@pytest.mark.parametrize(
    "other",
    [
        ProcessIdentity(pid=1, start_ticks=ME.start_ticks, boot_id=ME.boot_id),
        ProcessIdentity(pid=ME.pid, start_ticks=ME.start_ticks - 1, boot_id=ME.boot_id),
        ProcessIdentity(pid=ME.pid, start_ticks=ME.start_ticks, boot_id="another boot"),
    ],
    ids=["another pid", "an earlier process with this pid", "an earlier boot"],
)
def test_somebody_elses_heartbeat_does_not_count(other: ProcessIdentity) -> None:
    """A heartbeat counts only for the very process that wrote it."""
    worker = _judged(_running(uptime_seconds=1.0), _beat(process=other, lag_records=9))
    assert worker.status == "running starting"
    assert worker.lag_records is None


def test_an_old_heartbeat_is_failing() -> None:
    """A worker whose loop has not turned for longer than the profile allows is failing, and says for how long."""
    worker = _judged(_running(), _beat(age=13.0))
    assert (worker.status, worker.reason, worker.reason_seconds) == ("running failing", "no heartbeat", 13.0)
    assert _judged(_running(), _beat(age=11.9)).ready


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("starting", "running starting"),
        ("waiting", "running waiting"),
        ("failing", "running failing"),
        ("held", "held"),
    ],
)
def test_the_workers_own_word_is_kept(state: WorkerState, status: str) -> None:
    """What a worker says of itself is its status, with its reason and how long it has held."""
    worker = _judged(_running(), _beat(state, reason="postgres: refused"))
    assert (worker.status, worker.reason, worker.reason_seconds) == (status, "postgres: refused", 14.0)


@pytest.mark.parametrize(
    ("process", "status"),
    [
        (ProcessState("alpha", "core", "stopped"), "stopped"),
        (ProcessState("alpha", "core", "exited", exit_code=0), "stopped"),
        (ProcessState("alpha", "core", "exited", exit_code=78), "held"),
        (ProcessState("alpha", "core", "exited", exit_code=1), "running failing"),
        (ProcessState("alpha", "core", "exited", exit_code=None), "running failing"),
        (ProcessState("alpha", "core", "fatal"), "held"),
        (ProcessState("alpha", "core", "stopping", pid=ME.pid), "stopped"),
    ],
)
def test_a_process_that_does_not_run(process: ProcessState, status: str) -> None:
    """Stopped by an operator, held for its configuration, or dead and about to be restarted are different words."""
    assert _judged(process, _beat()).status == status


def test_a_held_worker_keeps_its_last_words() -> None:
    """After exit 78 the status shows what the worker said in its last heartbeat, not just the code."""
    process = ProcessState("alpha", "core", "exited", exit_code=78, reason="config: exit 78 after 1 s")
    assert _judged(process, _beat("held", reason="config: 28P01")).reason == "config: 28P01"
    assert _judged(process, None).reason == "config: exit 78 after 1 s"


def test_the_verdict_is_the_worst() -> None:
    """Each status is worse than the ones before it; nothing at all is stopped."""
    assert [worst([status, WORST_LAST[0]]) for status in WORST_LAST] == list(WORST_LAST)
    assert worst([]) == "stopped"


def _platform(tmp_path: Path, states: dict[str, tuple[WorkerState, str | None]]) -> PlatformPicture:
    clock = ManualClock()
    clock.advance(NOW)
    for name, (state, reason) in states.items():
        beat = HeartbeatFile(
            tmp_path / f"{name}.json", worker=name, pack="core", process=ME, clock=clock, version="test"
        )
        beat.beat(state, reason, lag_records=1000)
    clock.advance(14.0)
    for name in states:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "beat_monotonic": clock.monotonic()}))
    return draw_picture(
        profile="local_parity",
        platform_run_id="platform_20260210T091951Z",
        packs={"core": ["alpha", "beta"], "lane": ["gamma"]},
        processes=[replace(_running(), name=name) for name in states],
        services=[ServicePicture("postgres", "running ready", 7)],
        beats=tmp_path,
        beat_age_seconds_max=12.0,
        now_monotonic=clock.monotonic(),
    )


def test_the_json_is_the_contract(tmp_path: Path) -> None:
    """The object has the fields that CLI.md promises to operators and scripts."""
    picture = _platform(
        tmp_path, {"alpha": ("ready", None), "beta": ("waiting", "postgres: refused"), "gamma": ("ready", None)}
    )
    document = json.loads(json.dumps(picture.to_json()))
    assert {"profile", "platform_run_id", "verdict", "packs", "substrate"} <= document.keys()
    assert document["verdict"] == "running waiting"
    assert document["platform_run_id"] == "platform_20260210T091951Z"
    core = document["packs"][0]
    assert (core["pack"], core["status"], core["reason"]) == ("core", "running waiting", "postgres: refused, 14 s")
    wanted = {
        "worker",
        "process",
        "ready",
        "status",
        "reason",
        "pid",
        "uptime_seconds",
        "restarts",
        "beat_age_seconds",
        "lag_records",
        "rss_bytes",
    }
    assert wanted <= core["workers"][0].keys()
    assert document["substrate"] == [{"service": "postgres", "status": "running ready", "pid": 7, "reason": None}]


def test_one_cause_is_one_line(tmp_path: Path) -> None:
    """Three workers that wait for the same thing are one line with their number and its age, not three."""
    waiting: tuple[WorkerState, str] = ("waiting", "postgres: refused")
    screen = render(_platform(tmp_path, {"alpha": waiting, "beta": waiting, "gamma": waiting}))
    assert screen.count("postgres: refused") == 1
    assert "waiting: postgres: refused: 3 workers waiting, 14 s - alpha, beta, gamma" in screen


def test_columns_are_aligned_with_and_without_colour(tmp_path: Path) -> None:
    """Colour changes no column: stripped of its codes the coloured screen is the plain one."""
    picture = _platform(
        tmp_path, {"alpha": ("ready", None), "beta": ("failing", "bug: KeyError"), "gamma": ("ready", None)}
    )
    screen = render(picture, workers=True)
    code = "import re,sys; sys.stdout.write(re.sub(r'\\x1b\\[[0-9;]*m', '', sys.stdin.read()))"
    shown = render(picture, workers=True, paint=coloured)
    stripped = subprocess.run(
        [sys.executable, "-c", code], input=shown, capture_output=True, text=True, check=True
    ).stdout
    assert stripped == screen
    rows = [line for line in screen.splitlines() if "running" in line][1:]
    assert len({line.index("running") for line in rows}) == 1
    assert "lag 2,000" in screen


def test_a_narrowed_picture_has_its_own_verdict(tmp_path: Path) -> None:
    """`platform status PACK` judges that pack only."""
    picture = _platform(tmp_path, {"alpha": ("ready", None), "beta": ("ready", None), "gamma": ("failing", "x")})
    assert picture.verdict == "running failing"
    assert narrowed(picture, ["core"]).verdict == "running ready"
    assert [w.worker for w in narrowed(picture, ["beta"]).workers] == ["beta"]


@pytest.mark.parametrize(
    ("free", "reason", "guarded"),
    [(5 << 30, None, False), (1 << 29, None, True), (1100 << 20, "disk: 1 GiB free, 1.1 GiB wanted", True)],
)
def test_the_room_on_the_disk(tmp_path: Path, free: int, reason: str | None, guarded: bool) -> None:
    """In the object and on a line of its own; guarded below the minimum, and while a worker still waits for more."""
    state: tuple[WorkerState, str | None] = ("waiting", reason) if reason else ("ready", None)
    drawn = _platform(tmp_path, {"alpha": state, "beta": ("ready", None), "gamma": ("ready", None)})
    workers = [worker for pack in drawn.packs for worker in pack.workers]
    stored = {"log": 3 << 30, "database": 7 << 29}
    picture = replace(
        drawn,
        disk=judge_disk(
            DiskUse("/data", free, 10 << 30), 1 << 30, workers, stored_bytes=stored, held_back={"labels": "plane"}
        ),
    )
    assert picture.to_json()["disk"] == {
        "path": "/data", "free_bytes": free, "total_bytes": 10 << 30, "guard_free_bytes": 1 << 30, "guarded": guarded,
        "stored_bytes": stored, "held_back": {"labels": "plane"},
    }  # fmt: skip
    [line] = [line for line in render(picture).splitlines() if line.startswith("  disk  ")]
    assert "free of 10 GiB" in line
    assert ("the gate is shut below 1 GiB (/data)" in line) is guarded
    assert ("; bus log 3 GiB, database with it 3.5 GiB" in line) is not guarded
    assert "\n  trimming is held back: labels by plane\n" in render(picture) + "\n"
    assert drawn.disk is None
    assert "  disk  " not in render(drawn)


def test_ages_in_words() -> None:
    """A duration is told in its two largest units."""
    assert [age_text(s) for s in (14.2, 99, 725, 12_000, 187_200)] == ["14 s", "99 s", "12m 05s", "3h 20m", "2d 04h"]


def test_status_needs_neither_driver_nor_supervisor() -> None:
    """The picture imports nothing heavy: status must be quick and work while everything else is down."""
    code = "import sys, fraud_daemons.status.rendering; print([m for m in ('psycopg', 'boto3', 'structlog', 'supervisor', 'fraud_daemons.supervision') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
