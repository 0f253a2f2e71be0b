"""On what a figure was measured: cores, processor, memory, kernel, Python. No name and no address of the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_facts() -> dict[str, str | int]:
    """Written into every result."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": _field(Path("/proc/cpuinfo"), "model name"),
        "memory": _field(Path("/proc/meminfo"), "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0]),
    }


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
