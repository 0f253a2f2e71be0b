"""A sealed world: opened, checked, read by ordinal. Nothing here writes.

Opening hashes every file (a 300,000-transaction world takes well under a second) and compares the seal of the manifest,
so one changed byte anywhere in the folder is a ConfigurationError and never a wrong event. `verify` goes further: it
inflates everything and derives the fingerprint from the content again.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.domain.envelope import BEFORE_EVERYTHING, OUTPUTS, OrderKey
from fraud_daemons.domain.identity import canonical_json, derived_id
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.streams import ROWS_PER_BLOCK, STREAMS, Block, Row, StreamReader, StreamSeal, stream_file

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "world.json"
INDEX_FILE: Final = "index.json"
REJECTS_FILE: Final = "rejects.ndjson"
WAY_OUT: Final = "remove the folder and make or import the world again"


@dataclass(frozen=True)
class Manifest:
    """What world.json says. `origin` tells how the world came to be: seed, or source file, its hash and mapping."""

    world: str
    source: str
    """`generator` or `import`."""
    transactions: int
    truths: int
    fingerprint: str
    currency: str
    first_occurred_at: str
    last_occurred_at: str
    rejects: int
    origin: Mapping[str, Any]
    streams: Mapping[str, Mapping[str, Any]]
    """stream -> {rows, content_sha256}"""
    files: Mapping[str, Mapping[str, Any]]
    """file name -> {bytes, sha256}"""
    format_version: int = FORMAT_VERSION

    def document(self) -> dict[str, Any]:
        """The manifest as plain JSON values, without its seal."""
        return {name: _plain(value) for name, value in vars(self).items()}

    def sealed_bytes(self) -> bytes:
        """The bytes of world.json: the document and its seal, readable by people."""
        document = self.document()
        document["seal"] = seal_of(document)
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


class World:
    """A sealed world on disk. Reads are cheap and by ordinal; one instance belongs to one thread."""

    def __init__(self, path: Path, manifest: Manifest, readers: Mapping[str, StreamReader]) -> None:
        self.path = path
        self.manifest = manifest
        self._readers = readers

    @property
    def name(self) -> str:
        return self.manifest.world

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def transactions(self) -> int:
        return self.manifest.transactions

    @property
    def scenario_run_id(self) -> str:
        """The deterministic identity of what is replayed: the same content under any name."""
        return derived_id("scenario", self.fingerprint)

    def count(self, output: str) -> int:
        """Rows of one stream: `transactions` for the four outputs, the number of labels for `truth`."""
        return self._readers[output].rows

    def read(self, output: str, start: int, count: int) -> list[Row]:
        """Up to `count` rows {"occurred_at", "source_seq", "payload"} of a stream from ordinal `start` (0 first).

        Empty at and behind the end. For the four outputs ordinal and source_seq are the same number.
        """
        return self._readers[output].read(start, count)

    def order_key(self, output: str, ordinal: int) -> OrderKey:
        """Where the row at `ordinal` stands in the total order. Raises IndexError behind the end."""
        row = self.read(output, ordinal, 1)
        if not row:
            raise IndexError(f"{output} of world {self.name} has {self.count(output)} rows, none at {ordinal}")
        return row[0]["occurred_at"], row[0]["source_seq"]

    def rows_until(self, output: str, occurred_at: str) -> int:
        """How many rows of a stream have a time <= `occurred_at`: with `truth`, the labels observed by then."""
        return self._readers[output].rows_until(occurred_at)

    def rows(self, output: str, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """The rows of a stream one after the other, in bounded memory."""
        end = self.count(output) if stop is None else min(stop, self.count(output))
        while start < end:
            batch = self.read(output, start, min(ROWS_PER_BLOCK, end - start))
            yield from batch
            start += len(batch)

    def flow_ids(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The ids of the world's flows in its total order."""
        return (row["payload"]["flow_id"] for row in self.rows("traffic", start, stop))

    def rejects(self) -> Iterator[dict[str, Any]]:
        """The rows an import refused: {"line", "reason", "row"}."""
        path = self.path / REJECTS_FILE
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    yield orjson.loads(line)

    def verify(self) -> None:
        """Derive the fingerprint from the content again. Raises ConfigurationError with what does not hold."""
        contents = {}
        for stream in STREAMS:
            rows, digest = self._content_of(stream)
            contents[stream] = {"rows": rows, "content_sha256": digest}
        found = fingerprint_of(contents)
        if found != self.fingerprint:
            wrong = [stream for stream in STREAMS if contents[stream] != self.manifest.streams[stream]]
            raise _damaged(self.path, [f"content gives fingerprint {found}, sealed was {self.fingerprint}: {wrong}"])

    def _content_of(self, stream: str) -> tuple[int, str]:
        """Rows and content hash of one stream as it lies on disk, its order checked on the way."""
        digest = hashlib.sha256()
        rows = 0
        last = BEFORE_EVERYTHING
        reader = self._readers[stream]
        for number in range(reader.block_count):
            try:
                plain = reader.plain_block(number)
                keys = [(row["occurred_at"], row["source_seq"]) for row in map(orjson.loads, plain.splitlines())]
            except (OSError, ValueError, zlib.error) as error:
                raise _damaged(self.path, [f"{stream}: block {number} cannot be read ({error})"]) from error
            digest.update(plain)
            for key in keys:
                if key <= last:
                    raise _damaged(self.path, [f"{stream}: row {key} does not come after {last}"])
                last = key
            rows += len(keys)
        return rows, digest.hexdigest()


def open_world(worlds_dir: Path, name: str) -> World:
    """The sealed world `name`. Raises ConfigurationError when there is none or when it was changed."""
    path = worlds_dir / name
    if not (path / MANIFEST_FILE).is_file():
        known = ", ".join(manifest.world for manifest in list_worlds(worlds_dir)) or "none"
        raise ConfigurationError(
            [f"there is no world {name!r}; known: {known}; make one with `platform world make {name}`"], source="worlds"
        )
    manifest = read_manifest(path)
    if problems := _file_problems(path, manifest):
        raise _damaged(path, problems)
    index = orjson.loads((path / INDEX_FILE).read_bytes())
    readers = {
        stream: StreamReader(
            stream_file(path, stream),
            rows=manifest.streams[stream]["rows"],
            blocks=tuple(Block(*block) for block in index["blocks"][stream]),
        )
        for stream in STREAMS
    }
    return World(path, manifest, readers)


@dataclass(frozen=True)
class Survey:
    """What lies in a folder of worlds: the manifests by name, and what is wrong with the others."""

    manifests: list[Manifest]
    damaged: Mapping[str, ConfigurationError]


def survey_worlds(worlds_dir: Path) -> Survey:
    """All worlds of a folder, by name. Reads manifests only, no data; one damaged world does not hide the others."""
    manifests: list[Manifest] = []
    damaged: dict[str, ConfigurationError] = {}
    for path in sorted(worlds_dir.glob("*/")) if worlds_dir.is_dir() else ():
        if path.name.startswith("."):  # a world still being sealed
            continue
        try:
            manifests.append(read_manifest(path))
        except ConfigurationError as error:
            damaged[path.name] = error
    return Survey(manifests=manifests, damaged=damaged)


def list_worlds(worlds_dir: Path) -> list[Manifest]:
    """The manifests of all whole worlds, by name; see `survey_worlds` for the others."""
    return survey_worlds(worlds_dir).manifests


def read_manifest(path: Path) -> Manifest:
    """The manifest of the world in folder `path`, its seal and its own consistency checked."""
    try:
        document = orjson.loads((path / MANIFEST_FILE).read_bytes())
        seal = document.pop("seal")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(path, [f"{MANIFEST_FILE} cannot be read ({error!r})"]) from error
    if document.get("format_version") != FORMAT_VERSION:
        raise _damaged(
            path, [f"format version {document.get('format_version')!r}, this release reads {FORMAT_VERSION}"]
        )
    if seal != seal_of(document):
        raise _damaged(path, [f"{MANIFEST_FILE} was changed after sealing"])
    manifest = Manifest(**document)
    problems = []
    if manifest.world != path.name:
        problems.append(
            f"the folder is called {path.name!r}, the world {manifest.world!r}; a world is not renamed by hand"
        )
    if manifest.fingerprint != fingerprint_of(manifest.streams):
        problems.append("the fingerprint is not that of its streams")
    if problems:
        raise _damaged(path, problems)
    return manifest


def fingerprint_of(streams: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over the content of all five streams: per stream its row count and the hash of its canonical lines.

    Independent of the world's name, of compression and of files.
    """
    content = {name: {"rows": s["rows"], "content_sha256": s["content_sha256"]} for name, s in streams.items()}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def stream_entries(seals: Mapping[str, StreamSeal]) -> dict[str, dict[str, Any]]:
    """The `streams` part of a manifest."""
    return {name: {"rows": seal.rows, "content_sha256": seal.content_sha256} for name, seal in seals.items()}


def outputs_agree(seals: Mapping[str, StreamSeal]) -> bool:
    """One transaction is one event in each of the four outputs."""
    return len({seals[output].rows for output in OUTPUTS}) == 1


def seal_of(document: Mapping[str, Any]) -> str:
    """The hash that seals a manifest, over its canonical form without the seal itself."""
    return hashlib.sha256(canonical_json(dict(document))).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_problems(path: Path, manifest: Manifest) -> list[str]:
    """Every file that is missing, has another size or another content than the manifest says."""
    problems = []
    for name, expected in manifest.files.items():
        file = path / name
        try:
            size = file.stat().st_size
            if size != expected["bytes"]:
                problems.append(f"{name} has {size} bytes, sealed were {expected['bytes']}")
            elif file_sha256(file) != expected["sha256"]:
                problems.append(f"{name} was changed after sealing (its SHA-256 differs)")
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
    return problems


def _damaged(path: Path, problems: list[str]) -> ConfigurationError:
    return ConfigurationError([*problems, WAY_OUT], source=f"world {path.name} ({path})")


def _plain(value: Any) -> Any:
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
