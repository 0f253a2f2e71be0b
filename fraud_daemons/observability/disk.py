"""How much room the run directory's file systems have left: one statvfs each, no walk through folders.

Only file systems that hold something of ours are looked at - the run directory itself (logs, beats) and, where an
operator mounted or linked them elsewhere, the embedded parts' data. The tightest one is the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EMBEDDED_DATA: Final = ("postgres", "objects")
"""Folders of the run directory that may lie on a file system of their own."""

BLOCK_BYTES: Final = 512
"""What `st_blocks` counts in, whatever the file system's own blocks are."""

statvfs = os.statvfs
"""The one question asked of the kernel; tests answer in its place."""


@dataclass(frozen=True)
class DiskUse:
    """Room of one file system, as an ordinary user may use it."""

    path: str
    free_bytes: int
    total_bytes: int


def disk_use(run_dir: Path) -> DiskUse:
    """The tightest file system below `run_dir`. Raises OSError when nothing of it can be asked."""
    folders = [_existing(run_dir), *(run_dir / name for name in EMBEDDED_DATA if (run_dir / name).exists())]
    return min(_uses(folders), key=lambda use: use.free_bytes)


def taken_bytes(folder: Path) -> int:
    """What the files below `folder` take, as the file system counts it. A walk: not for a status line, whose figures come
    from whoever walked last. Files that go meanwhile are left out."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).lstat().st_blocks * BLOCK_BYTES
    return total


def size_text(size: int) -> str:
    """A size in the unit that leaves a readable figure: 512 MiB, 1 GiB, 74.9 GiB; always rounded down."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if size >= 1 << power:
            tenths = size * 10 >> power
            return f"{tenths // 10} {unit}" if tenths % 10 == 0 or unit == "MiB" else f"{tenths / 10:.1f} {unit}"
    return f"{size >> 10} KiB"


def _uses(folders: Iterable[Path]) -> list[DiskUse]:
    uses = []
    for folder in folders:
        answer = statvfs(folder)
        uses.append(DiskUse(str(folder), answer.f_bavail * answer.f_frsize, answer.f_blocks * answer.f_frsize))
    return uses


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there: before the first `up` there is no run directory."""
    return next(path for path in (folder, *folder.parents) if path.exists())
