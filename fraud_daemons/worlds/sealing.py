"""Writing a world: everything goes into a side folder under a lock, then one rename makes it a world.

A crash leaves a side folder that nobody lists and the next sealing of that name removes. Sealing the same content
under the same name again changes nothing; other content under a name that is taken is refused, because runs and
reports already refer to it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.sealed import (
    INDEX_FILE,
    MANIFEST_FILE,
    REJECTS_FILE,
    Manifest,
    World,
    file_sha256,
    fingerprint_of,
    open_world,
    outputs_agree,
    stream_entries,
)
from fraud_daemons.worlds.streams import STREAMS, StreamReader, StreamSeal, StreamWriter, stream_file
from fraud_daemons.worlds.transaction import Transaction, Truth, project

WORLD_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
TRANSACTIONS_MAX: Final = 5_000_000  # a limit on everything; sorting is in memory, at about 400 bytes a row


@dataclass(frozen=True)
class Provenance:
    """How a world came to be, for its manifest."""

    source: str
    """`generator` or `import`."""
    currency: str
    origin: Mapping[str, Any]


def name_problems(name: str) -> list[str]:
    """What is wrong with a world's name: it becomes a folder and a field of every event."""
    if WORLD_NAME.fullmatch(name):
        return []
    return [
        f"world name {name!r}: must be lower-case letters, digits, '-' and '_', at most 63, not starting with a sign"
    ]


@contextmanager
def sealing_folder(worlds_dir: Path, name: str) -> Iterator[Path]:
    """An empty side folder for the world `name`, exclusively ours; removed at the end if it was not renamed.

    Raises ConfigurationError for a bad name or while another process seals the same world.
    """
    if problems := name_problems(name):
        raise ConfigurationError(problems, source="worlds")
    worlds_dir.mkdir(parents=True, exist_ok=True)
    with (worlds_dir / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                [f"world {name!r} is being made by another process; wait for it"], source="worlds"
            ) from None
        folder = worlds_dir / f".{name}.sealing"
        shutil.rmtree(folder, ignore_errors=True)  # the footprint of a crash: the lock says that nobody writes it
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def seal(
    folder: Path,
    *,
    worlds_dir: Path,
    name: str,
    transactions: Iterable[Transaction],
    truths: Iterable[Truth],
    provenance: Provenance,
    rejects: int = 0,
) -> World:
    """Write the streams into the side folder, seal it as world `name` and open it.

    `transactions` and `truths` must come in order of time; their ordinals become source_seq. `truths` is asked for
    only after the last transaction, so it may be collected on the way.
    """
    seals = _write_streams(folder, transactions, truths)
    first, last = _span(folder, seals)
    index = {
        "blocks": {stream: [[b.offset, b.length, b.first_occurred_at] for b in s.blocks] for stream, s in seals.items()}
    }
    (folder / INDEX_FILE).write_bytes(orjson.dumps(index))
    streams = stream_entries(seals)
    manifest = Manifest(
        world=name,
        source=provenance.source,
        transactions=seals["traffic"].rows,
        truths=seals[TRUTH].rows,
        fingerprint=fingerprint_of(streams),
        currency=provenance.currency,
        first_occurred_at=first,
        last_occurred_at=last,
        rejects=rejects,
        origin=provenance.origin,
        streams=streams,
        files=_file_entries(folder, seals),
    )
    (folder / MANIFEST_FILE).write_bytes(manifest.sealed_bytes())
    return _publish(folder, worlds_dir=worlds_dir, name=name, fingerprint=manifest.fingerprint)


def _write_streams(folder: Path, transactions: Iterable[Transaction], truths: Iterable[Truth]) -> dict[str, StreamSeal]:
    writers = {stream: StreamWriter(stream_file(folder, stream)) for stream in STREAMS}
    try:
        for source_seq, (occurred_at, payloads) in enumerate(project(transactions)):
            for output in OUTPUTS:
                writers[output].append(occurred_at=occurred_at, source_seq=source_seq, payload=payloads[output])
        for source_seq, truth in enumerate(truths):
            writers[TRUTH].append(occurred_at=truth.observed_at, source_seq=source_seq, payload=truth.payload)
        seals = {stream: writer.finish() for stream, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.abandon()
    if not outputs_agree(seals):
        raise AssertionError("the four outputs differ in length: a bug in projection")
    return seals


def _span(folder: Path, seals: Mapping[str, StreamSeal]) -> tuple[str, str]:
    """Times of the first and the last transaction. Raises ConfigurationError for a world without any."""
    traffic = seals["traffic"]
    if traffic.rows == 0:
        raise ConfigurationError(["a world needs at least one transaction"], source="worlds")
    reader = StreamReader(stream_file(folder, "traffic"), rows=traffic.rows, blocks=traffic.blocks)
    return traffic.blocks[0].first_occurred_at, reader.read(traffic.rows - 1, 1)[0]["occurred_at"]


def _file_entries(folder: Path, seals: Mapping[str, StreamSeal]) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = {
        stream_file(folder, stream).name: {"bytes": s.file_bytes, "sha256": s.file_sha256}
        for stream, s in seals.items()
    }
    for extra in (INDEX_FILE, REJECTS_FILE):
        path = folder / extra
        if path.exists():
            files[extra] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return files


def _publish(folder: Path, *, worlds_dir: Path, name: str, fingerprint: str) -> World:
    """The side folder becomes the world, unless the name is taken: by the same content (fine) or by other (refused)."""
    target = worlds_dir / name
    if target.exists():
        existing = open_world(worlds_dir, name)
        if existing.fingerprint != fingerprint:
            raise ConfigurationError(
                [
                    f"world {name!r} is sealed with fingerprint {existing.fingerprint[:16]}…, this content has {fingerprint[:16]}…",
                    f"take another name, or remove {target} when no run needs it",
                ],
                source="worlds",
            )
        return existing
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)
    folder.rename(target)
    _sync(worlds_dir)
    return open_world(worlds_dir, name)


def _sync(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
