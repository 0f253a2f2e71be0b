"""What a platform uses, sampled: memory, open files, sockets, disk; and whether it stays flat. Only what may be compared is
compared: the middle half of a soak with its last quarter, after the warm-up."""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraud_daemons.acceptance.drills.stage import Check
from fraud_daemons.acceptance.footprint import footprint, processes_of
from fraud_daemons.clock import Clock

SAMPLE_EVERY_SECONDS = 5.0
SAMPLES_MIN = 8
ROUNDS_MIN = 6
"""Fewer rounds say nothing about latency: an outage in one of them is all there is to see. The median, for the same reason."""
DISK_NOISE_BYTES_PER_SECOND = 200_000
GROWTH_MAX = {"memory_bytes": 0.15, "files_open": 0.15, "sockets": 0.25}
"""By how much the last quarter's median may be above the median of what came before."""


@dataclass
class Sampler:
    """Samples one run directory in a thread of its own."""

    run_dir: Path
    clock: Clock
    samples: list[dict[str, float]] = field(default_factory=list)

    def __enter__(self) -> Sampler:
        self._began = self.clock.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_SECONDS):
            at = round(self.clock.monotonic() - self._began, 1)
            self.samples.append({"at": at, **use_of(self.run_dir), "disk_bytes": disk_bytes(self.run_dir)})


def use_of(run_dir: Path) -> dict[str, float]:
    """Memory (PSS), open files and sockets of the platform's processes."""
    pids = {pid for pid, _ in processes_of(run_dir)}
    files = sockets = 0
    for pid in pids:
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115 - Path.readlink is slower
        except OSError:  # it left meanwhile
            continue
        files += len(links)
        sockets += sum(link.startswith("socket:") for link in links)
    memory = footprint(run_dir).pss_bytes_total
    return {"memory_bytes": memory, "files_open": files, "sockets": sockets, "processes": len(pids)}


def disk_bytes(run_dir: Path) -> int:
    """Size of every file of the run directory but the write-ahead log, whose files come and go 16 MiB at a time."""
    total = 0
    for folder, folders, names in os.walk(run_dir):
        if "pg_wal" in folders:
            folders.remove("pg_wal")
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - thousands of files each time
            except OSError:
                continue
    return total


def flatness(samples: Sequence[Mapping[str, float]], latencies_p50_ms: Sequence[float]) -> list[Check]:
    """A check per measure; too few samples are no proof of flatness and fail."""
    settled = samples[len(samples) // 4 :]
    if len(settled) < SAMPLES_MIN:
        return [Check("flat", f">= {SAMPLES_MIN} samples after the warm-up", len(settled), good=False)]
    cut = 2 * len(settled) // 3
    early, late = settled[:cut], settled[cut:]
    found = []
    for name, growth_max in GROWTH_MAX.items():
        before, after = (statistics.median(sample[name] for sample in part) for part in (early, late))
        growth = (after - before) / before if before else 0.0
        observed = f"{before:,.0f} -> {after:,.0f} ({growth:+.1%})"
        found.append(Check(f"{name}_flat", f"<= +{growth_max:.0%}", observed, growth <= growth_max))
    first, second = _rate(early), _rate(late)
    steady = second <= 2 * first + DISK_NOISE_BYTES_PER_SECOND
    found.append(Check("disk_growth_steady", "not faster at the end", f"{first:,.0f} -> {second:,.0f} bytes/s", steady))
    if len(latencies_p50_ms) >= ROUNDS_MIN:
        third = len(latencies_p50_ms) // 3
        begin, end = (statistics.median(part) for part in (latencies_p50_ms[:third], latencies_p50_ms[-third:]))
        found.append(
            Check("latency_flat", "median p50 <= 2 x + 100 ms", f"{begin:.0f} -> {end:.0f} ms", end <= 2 * begin + 100)
        )
    return found


def _rate(part: Sequence[Mapping[str, float]]) -> float:
    seconds = part[-1]["at"] - part[0]["at"]
    return (part[-1]["disk_bytes"] - part[0]["disk_bytes"]) / seconds if seconds else 0.0


def summary(samples: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Median and maximum of each measure."""
    names = ("memory_bytes", "files_open", "sockets", "processes", "disk_bytes")
    if not samples:
        return {}
    return {n: {"median": statistics.median(s[n] for s in samples), "max": max(s[n] for s in samples)} for n in names}
