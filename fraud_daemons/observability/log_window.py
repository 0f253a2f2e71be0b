"""What was written to a log between two moments, over its rotations, with proof that nothing of it is missing.

A file is marked by its inode and size; later everything behind the mark is read, from whatever name the file has by then
on. A file that is gone, was cut, or grew beyond what is read makes a `gap`: then the window proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WINDOW_BYTES_MAX: Final = 64 * 1024 * 1024
ROTATIONS_MAX: Final = 100


@dataclass(frozen=True)
class Mark:
    """Where a log stood. `inode` 0 = it was not there."""

    path: Path
    inode: int
    size: int


@dataclass(frozen=True)
class Window:
    """What was written behind a mark: whole lines, from which files, and what is missing (None = nothing)."""

    lines: tuple[str, ...]
    files: tuple[str, ...]
    gap: str | None


def mark(path: Path) -> Mark:
    """Note where a log stands now."""
    try:
        stat = path.stat()
    except OSError:
        return Mark(path, 0, 0)
    return Mark(path, stat.st_ino, stat.st_size)


def written_since(begun: Mark) -> Window:
    """Everything behind the mark, oldest first."""
    try:
        return _read(begun)
    except OSError as error:
        return Window((), (), f"{begun.path.name}: cannot be read: {error.strerror}")


def _read(begun: Mark) -> Window:
    chain = list(_newest_first(begun.path))
    if begun.inode == 0:
        return _collected([(path, 0) for path in reversed(chain)])
    behind: list[tuple[Path, int]] = []
    for path in chain:
        stat = path.stat()
        if stat.st_ino != begun.inode:
            behind.append((path, 0))
            continue
        if stat.st_size < begun.size:
            return Window((), (path.name,), f"{path.name}: was cut from {begun.size} to {stat.st_size} bytes")
        return _collected([(path, begun.size), *reversed(behind)])
    return Window((), (), f"{begun.path.name}: what stood there is gone (removed or rotated away)")


def _newest_first(path: Path) -> Iterator[Path]:
    """The file, then `.1`, `.2` …, as long as there are any."""
    if path.exists():
        yield path
    for number in range(1, ROTATIONS_MAX):
        older = path.with_name(f"{path.name}.{number}")
        if not older.exists():
            return
        yield older


def _collected(parts: list[tuple[Path, int]]) -> Window:
    lines: list[str] = []
    read = 0
    for path, offset in parts:
        with path.open("rb") as file:
            file.seek(offset)
            written = file.read(WINDOW_BYTES_MAX - read + 1)
        read += len(written)
        if read > WINDOW_BYTES_MAX:
            return Window(
                tuple(lines), (path.name,), f"{path.name}: more than {WINDOW_BYTES_MAX >> 20} MiB were written"
            )
        lines += written.decode(errors="replace").splitlines()
    return Window(tuple(lines), tuple(path.name for path, _ in parts), None)
