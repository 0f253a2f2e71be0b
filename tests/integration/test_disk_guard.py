"""The disk guard over real HTTP: the kernel's answer about free space is the only thing that is made up."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fraud_daemons.errors import TransientFault
from fraud_daemons.observability import disk
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.workers.control_ingress._gate_disk import DiskGuard, DiskWatch
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER as PRODUCER
from fraud_daemons.worlds.generator import make_world
from tests.gate import Gate, events_of, open_gate, prepare
from tests.line import RUN, Line
from tests.producing import (
    OTHER_WORKERS,
    SMALL_ROUNDS,
    TRANSACTIONS,
    ask,
    check_slice,
    work_until_ended,
    write_beat,
)

MIB = 1 << 20


class Kernel:
    """Stands for statvfs: as much room as the test says; counts how often it was asked."""

    def __init__(self) -> None:
        self.free_mib, self.asked = 4096, 0

    def __call__(self, _path: object) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(f_bavail=self.free_mib, f_frsize=MIB, f_blocks=10_000)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(disk, "statvfs", made)
    return made


def watch(gate: Gate) -> DiskWatch:
    found = gate.activities[-1]
    assert isinstance(found, DiskWatch)
    return found


def step(activities: list[Activity]) -> None:
    for activity in activities:
        activity.step()


def test_below_the_minimum_nothing_is_taken_in_and_it_opens_again_by_itself(line: Line, kernel: Kernel) -> None:
    """503 with Retry-After and the figures, for events, transactions and readiness alike, and nothing is written; the
    worker says why; it opens only with a tenth more than the minimum; the process itself stays well."""
    with open_gate(line) as gate:
        assert gate.post(events_of(range(5), run=RUN)).statuses == ["ADMITTED"] * 5
        kernel.free_mib = 512
        line.clock.advance(1)
        for answer in (
            gate.post(events_of(range(5, 10), run=RUN)),
            gate.request("POST", "/v1/transactions", b"{}"),
            gate.request("GET", "/readyz"),
        ):
            assert (answer.status, answer.body["error"]) == (503, "disk_low")
            assert answer.body["detail"] == "disk: 512 MiB free, 1 GiB wanted"
            assert int(answer.headers["Retry-After"]) >= 1
        with pytest.raises(TransientFault) as fault:
            watch(gate).step()
        assert fault.value.reason == "disk: 512 MiB free, 1 GiB wanted"
        assert gate.request("GET", "/healthz").status == 200
        assert line.sql("select count(*) from ig.admissions") == [(5,)]
        for _ in range(2):  # what was taken in is finished meanwhile; twice, a sealer that lingers looks idle
            line.drain(gate.activities[1:-1], advance_seconds=2.0)
        assert line.sql("select sum(records) from ig.segments where state = 'COMPLETE'") == [(5,)]

        kernel.free_mib = 1025  # above the minimum, not a tenth above
        line.clock.advance(1)
        assert gate.post(events_of(range(5, 10), run=RUN)).status == 503
        kernel.free_mib = 1127
        line.clock.advance(1)
        watch(gate).step()
        assert gate.post(events_of(range(10), run=RUN)).statuses == ["DUPLICATE"] * 5 + ["ADMITTED"] * 5


def test_the_disk_is_asked_once_a_second_at_most(line: Line, kernel: Kernel) -> None:
    """However many requests come, the kernel is asked once; a minimum of 0 never asks."""
    with open_gate(line) as gate:
        for number in range(20):
            gate.post(events_of([number], run=RUN))
        assert kernel.asked == 1
    with open_gate(line, settings={"disk.free_bytes_min": 0}) as gate:
        kernel.free_mib = 0
        assert gate.post(events_of([20], run=RUN)).status == 200
        watch(gate).step()
        assert kernel.asked == 1


def test_a_disk_that_cannot_be_asked_shuts_the_gate(line: Line) -> None:
    """No answer is not room."""

    def broken() -> disk.DiskUse:
        raise OSError(5, "Input/output error")

    guard = DiskGuard(broken, line.clock, free_bytes_min=1)
    assert guard.reason() == "disk: cannot be measured: Input/output error"


def test_a_stream_over_a_full_disk_loses_nothing(line: Line, kernel: Kernel, short_dir: Path) -> None:
    """The disk fills in the middle of a stream: the producer waits, and goes on when there is room; the journal is the
    world's slice, each event on the bus once."""
    prepare(line)
    for worker in OTHER_WORKERS:
        write_beat(short_dir, worker)
    world = make_world(short_dir / "worlds", name="tiny", transactions=TRANSACTIONS, seed=7, currency="USD")
    with open_gate(line):
        activities = line.activities(PRODUCER, settings=SMALL_ROUNDS)
        stream_id = ask(line, 0)
        while line.sql("select count(*) from ig.admissions") == [(0,)]:
            step(activities)
        kernel.free_mib = 100
        line.clock.advance(2)
        [(before,)] = line.sql("select count(*) from ig.admissions")
        for _ in range(5):
            with pytest.raises(TransientFault) as fault:
                step(activities)
            assert "disk_low: disk: 100 MiB free" in fault.value.reason
            for activity in activities:
                activity.forget()
            line.clock.advance(10)
        assert line.sql("select count(*) from ig.admissions") == [(before,)]
        kernel.free_mib = 2000
        line.clock.advance(10)
        work_until_ended(line, activities)
    check_slice(line, world, stream_id, 0, TRANSACTIONS, stop_reason="end_of_world")


def test_the_tightest_file_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded data on a file system of its own is looked at too; other folders are not; no walk, one question each."""
    room = {tmp_path: 900, tmp_path / "postgres": 30, tmp_path / "worlds": 1}
    for folder in room:
        folder.mkdir(exist_ok=True)
    asked: list[Path] = []

    def answer(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(f_bavail=room[path], f_frsize=MIB, f_blocks=1000)

    monkeypatch.setattr(disk, "statvfs", answer)
    use = disk.disk_use(tmp_path)
    assert (use.path, use.free_bytes) == (str(tmp_path / "postgres"), 30 * MIB)
    assert asked == [tmp_path, tmp_path / "postgres"]


def test_before_the_first_start_the_disk_is_known_too(tmp_path: Path) -> None:
    """Without a run directory the nearest folder above answers, as the kernel itself says."""
    use = disk.disk_use(tmp_path / "not" / "yet")
    assert use.path == str(tmp_path)
    assert use.total_bytes == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


@pytest.mark.parametrize(
    ("size", "text"),
    [(512 * MIB, "512 MiB"), (1024 * MIB, "1 GiB"), (1126 * MIB, "1 GiB"), (1536 * MIB, "1.5 GiB"), (2047, "1 KiB")],
)
def test_sizes_are_rounded_down(size: int, text: str) -> None:
    """More is never promised than there is."""
    assert disk.size_text(size) == text
