"""The file format of one stream: zlib blocks of a fixed number of canonical JSON lines, and an index of the blocks.

Row k is in block k // ROWS_PER_BLOCK, so a restart at row 300,000 reads one block and no more. JSON lines rather than
Parquet, because the reader wants Python dicts: orjson gives hundreds of thousands a second without importing an arrow
library into a worker. zlib, because it is in the standard library and shrinks these lines about sevenfold.

The content hash is taken over the lines before compression: two zlib versions may give different files, never a
different fingerprint.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.domain.envelope import BEFORE_EVERYTHING, OUTPUTS, TRUTH, OrderKey
from fraud_daemons.domain.identity import canonical_json

STREAMS: Final = (*OUTPUTS, TRUTH)
ROWS_PER_BLOCK: Final = 512  # about the producer's round: a round inflates one or two blocks of some 20 KB
COMPRESSION_LEVEL: Final = 6

Row = dict[str, Any]
"""{"occurred_at": text, "source_seq": int, "payload": dict}"""


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block lies in its file, and the time of its first row (for searching by time)."""

    offset: int
    length: int
    first_occurred_at: str


@dataclass(frozen=True, slots=True)
class StreamSeal:
    """What is known of a finished stream: counts, the hash of its content and the size and hash of its file."""

    rows: int
    content_sha256: str
    file_bytes: int
    file_sha256: str
    blocks: tuple[Block, ...]


def stream_file(folder: Path, stream: str) -> Path:
    """The file of `stream` in a world's folder."""
    return folder / f"{stream}.blocks"


class StreamWriter:
    """Appends rows in strictly rising order to one new file; `finish` makes it durable and says what it holds."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._pending: list[bytes] = []
        self._pending_since = ""
        self._blocks: list[Block] = []
        self._rows = 0
        self._bytes = 0
        self._last: OrderKey = BEFORE_EVERYTHING
        self._content = hashlib.sha256()
        self._file_hash = hashlib.sha256()

    def append(self, *, occurred_at: str, source_seq: int, payload: dict[str, Any]) -> None:
        """One more row. Raises ValueError when it does not come after the one before."""
        key = (occurred_at, source_seq)
        if key <= self._last:
            raise ValueError(f"row {key} does not come after {self._last}: a world has one total order")
        self._last = key
        if not self._pending:
            self._pending_since = occurred_at
        line = canonical_json({"occurred_at": occurred_at, "source_seq": source_seq, "payload": payload})
        self._pending.append(line)
        self._rows += 1
        if len(self._pending) == ROWS_PER_BLOCK:
            self._flush_block()

    def finish(self) -> StreamSeal:
        """Write what is pending, sync, close."""
        self._flush_block()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return StreamSeal(
            rows=self._rows,
            content_sha256=self._content.hexdigest(),
            file_bytes=self._bytes,
            file_sha256=self._file_hash.hexdigest(),
            blocks=tuple(self._blocks),
        )

    def abandon(self) -> None:
        """Close without finishing; the caller removes the file."""
        self._file.close()

    def _flush_block(self) -> None:
        if not self._pending:
            return
        plain = b"\n".join(self._pending) + b"\n"
        packed = zlib.compress(plain, COMPRESSION_LEVEL)
        self._content.update(plain)
        self._file_hash.update(packed)
        self._file.write(packed)
        self._blocks.append(Block(self._bytes, len(packed), self._pending_since))
        self._bytes += len(packed)
        self._pending.clear()


class StreamReader:
    """Reads rows by ordinal. Holds one inflated block at most; not for two threads at once."""

    def __init__(self, path: Path, *, rows: int, blocks: tuple[Block, ...]) -> None:
        self.rows = rows
        self._path = path
        self._blocks = blocks
        self._block_times = [block.first_occurred_at for block in blocks]
        self._cached: tuple[int, list[bytes]] = (-1, [])

    def read(self, start: int, count: int) -> list[Row]:
        """Up to `count` rows from ordinal `start`; fewer at the end, none behind it."""
        if start < 0 or count < 0:
            raise ValueError(f"start {start} and count {count} must not be negative")
        stop = min(start + count, self.rows)
        rows: list[Row] = []
        while start < stop:
            number, skip = divmod(start, ROWS_PER_BLOCK)
            lines = self.lines(number)[skip : skip + stop - start]
            # one parse for the whole slice is twice as fast as one for each line
            rows += orjson.loads(b"[" + b",".join(lines) + b"]")
            start += len(lines)
        return rows

    def rows_until(self, occurred_at: str) -> int:
        """How many rows have a time up to and including `occurred_at`."""
        number = bisect.bisect_right(self._block_times, occurred_at) - 1
        if number < 0:
            return 0
        first = number * ROWS_PER_BLOCK
        times = [row["occurred_at"] for row in self.read(first, ROWS_PER_BLOCK)]
        return first + bisect.bisect_right(times, occurred_at)

    def plain_block(self, number: int) -> bytes:
        """The inflated bytes of one block. Raises OSError, ValueError or zlib.error when the file is damaged."""
        block = self._blocks[number]
        with self._path.open("rb") as file:
            file.seek(block.offset)
            packed = file.read(block.length)
        return zlib.decompress(packed)

    def lines(self, number: int) -> list[bytes]:
        """The lines of one block, from memory when it was the last one asked for."""
        if self._cached[0] != number:
            self._cached = (number, self.plain_block(number).splitlines())
        return self._cached[1]

    @property
    def block_count(self) -> int:
        return len(self._blocks)
