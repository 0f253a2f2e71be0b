"""What the platform's processes cost, read from /proc: CPU and memory by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fraud_daemons.acceptance.footprint import Footprint, Memory, cpu_per_transaction, footprint, growth, pss_by_process

BURN = "import time, sys; end = time.process_time() + float(sys.argv[-1])\nwhile time.process_time() < end: pass\nprint('done', flush=True); sys.stdin.read()"


def test_cpu_and_memory_of_the_run_directory_s_processes_only(tmp_path: Path) -> None:
    """A process that carries the run directory is counted under its worker's name, with what it burnt; another is not."""

    def started(run_dir: Path, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", BURN, *words], env={**os.environ, "PLATFORM_RUN_DIR": str(run_dir)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    ours = started(tmp_path, "fraud_daemons.cli.main", "worker", "run", "action_layer", "0.3")
    other = started(tmp_path / "other", "0.01")
    try:
        for process in (ours, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
        found = footprint(tmp_path)
    finally:
        for process in (ours, other):
            process.communicate()
    assert list(found.cpu_ms) == ["action_layer"]
    assert found.cpu_ms["action_layer"] >= 250
    memory = found.pss["action_layer"]
    assert found.pss_bytes_total == memory.total > 1_000_000
    assert abs(memory.total - (memory.anonymous + memory.file + memory.shared)) <= 4096


def test_cost_per_transaction_is_what_was_used_meanwhile() -> None:
    """Differences over the transactions, dearest first; a process that was not there before counts whole."""
    before = Footprint({"gate": 100.0, "idle": 5.0}, {})
    after = Footprint({"gate": 300.0, "idle": 5.0, "new": 500.0}, {})
    assert list(cpu_per_transaction(before, after, 1000).items()) == [("total", 0.7), ("new", 0.5), ("gate", 0.2)]


def test_growth_is_told_by_process_and_by_kind_of_page() -> None:
    """Who grew most comes first; one that was not there before grew by all it has, and the kinds say where."""
    before = Footprint({}, {"plane": Memory(10 << 20, 9 << 20, 1 << 20, 0), "gone": Memory(1, 1, 0, 0)})
    after = Footprint({}, {"plane": Memory(9 << 20, 8 << 20, 1 << 20, 0), "new": Memory(4 << 20, 0, 0, 4 << 20)})
    found = pss_by_process(before, after)
    assert list(found) == ["new", "plane"]
    assert found["plane"] == {
        "bytes": 9 << 20, "growth_bytes": -(1 << 20), "growth_anonymous_bytes": -(1 << 20), "growth_file_bytes": 0,
        "growth_shared_bytes": 0,
    }  # fmt: skip
    assert found["new"]["growth_shared_bytes"] == 4 << 20
    assert growth(found, most=1) == "new +4.0 MiB"
