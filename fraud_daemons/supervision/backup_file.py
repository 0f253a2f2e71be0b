"""The file of a backup: a gzipped tar that proves itself. It writes and reads one, and knows nothing of what runs.

    backup.json       first: what it is - format, PostgreSQL major, version, profile, bytes -, so that a wrong one is refused at once
    data/<path>       the files and folders of the run directory
    manifest.json     last: size and sha256 of every file; a backup without it was cut short

Written and read in one pass, 1 MiB at a time; only the list of files is held in memory, some 300 bytes each. Links and
devices are neither written nor unpacked, and no path leads out of the folder.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from fraud_daemons.errors import CommandError
from fraud_daemons.observability.disk import size_text

FORMAT: Final = 1
HEADER, MANIFEST, DATA = "backup.json", "manifest.json", "data"
CHUNK_BYTES: Final = 1 << 20
COMPRESSION: Final = 1  # the cheapest: a tenth larger and four times as fast as gzip's own choice
PROGRESS_PARTS: Final = 10
JSON_BYTES_MAX: Final = 256 << 20  # a manifest of a million files has half of it

Tell = Callable[[str], None]


class Unverified(Exception):
    """The file is not a whole and true backup; the text says what is wrong with it."""


@dataclass(frozen=True)
class Header:
    """What a backup says of itself before anything else."""

    postgres_major: str
    platform_version: str
    profile: str
    created_at: str
    files: int
    data_bytes: int
    format: int = FORMAT


class Progress:
    """Tells of every tenth."""

    def __init__(self, tell: Tell, *, words: str, total_bytes: int) -> None:
        self._tell, self._words, self._total = tell, words, total_bytes
        self._done = self._told = 0

    def add(self, size: int) -> None:
        self._done += size
        part = self._done * PROGRESS_PARTS // max(1, self._total)
        if part > self._told:
            self._told = part
            self._tell(f"{self._words} {size_text(self._done)} of {size_text(self._total)}")


def files_of(folder: Path, *, left_out: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, Path, bool]]:
    """(path in the backup, path on disk, is a folder) in order. Sockets are nobody's data; a link is refused."""
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not left_out(_inside(folder, Path(parent, name))))
        for name in sorted([*folders, *names]):
            path = Path(parent, name)
            inside, mode = _inside(folder, path), path.lstat().st_mode
            if left_out(inside) or stat.S_ISSOCK(mode):
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                message = f"{path} is a link or a device, and what it leads to would not be in the backup"
                raise CommandError(f"{message}; put the files themselves there")
            yield inside, path, stat.S_ISDIR(mode)


def write(out: IO[bytes], header: Header, files: Iterator[tuple[PurePosixPath, Path, bool]], *, tell: Tell) -> None:
    """Write the whole backup to `out`. Raises OSError when the disk is full or a file cannot be read."""
    progress = Progress(tell, words="backup:", total_bytes=header.data_bytes)
    hashes: dict[str, dict[str, Any]] = {}
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=COMPRESSION, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add_json(tar, HEADER, asdict(header))
        for inside, path, is_folder in files:
            info = tarfile.TarInfo(f"{DATA}/{inside}")
            info.mode = 0o700 if is_folder else 0o600
            if is_folder:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                with path.open("rb") as source:
                    info.size = os.fstat(source.fileno()).st_size
                    hashing = _Hashing(source, progress)
                    tar.addfile(info, hashing)
                hashes[str(inside)] = {"size": info.size, "sha256": hashing.sha256.hexdigest()}
            tar.members.clear()  # type: ignore[attr-defined]  # every member is kept otherwise
        _add_json(tar, MANIFEST, {"header": asdict(header), "files": hashes})


def read_header(source: IO[bytes]) -> Header:
    """What a backup says of itself; reads no further. Raises Unverified."""
    with _truthful(), gzip.GzipFile(fileobj=source) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
        return _header(tar)


def extract(source: IO[bytes], folder: Path, *, tell: Tell) -> Header:
    """Unpack into the empty `folder` and compare every file with the manifest. Raises Unverified, and OSError for the disk."""
    found: dict[str, dict[str, Any]] = {}
    with _truthful(), gzip.GzipFile(fileobj=source) as packed:
        with tarfile.open(fileobj=packed, mode="r|") as tar:
            header = _header(tar)
            progress = Progress(tell, words="restore:", total_bytes=header.data_bytes)
            manifest = None
            while manifest is None:
                member = tar.next()
                if member is None:
                    raise Unverified("it ends before its manifest: it was cut short")
                if member.name == MANIFEST:
                    manifest = _json(tar, member)
                else:
                    _unpack(tar, member, folder, found, progress)
                tar.members.clear()  # type: ignore[attr-defined]
        while packed.read(CHUNK_BYTES):  # to the very end: only there stands gzip's own checksum
            pass
    _compare(manifest, header, found)
    return header


class _Hashing(io.RawIOBase):
    """A file that is hashed and counted as it is read."""

    def __init__(self, source: IO[bytes], progress: Progress) -> None:
        self._source, self._progress = source, progress
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        self._progress.add(len(data))
        return data


class _truthful:  # noqa: N801 - a context manager, read as a word
    """Whatever the unpacking libraries say about broken bytes becomes Unverified."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError)):
            raise Unverified(f"it is damaged or no backup: {error}") from error


def _header(tar: tarfile.TarFile) -> Header:
    member = tar.next()
    if member is None or member.name != HEADER:
        raise Unverified("it is no backup of this platform")
    content = _json(tar, member)
    if content.get("format") != FORMAT:
        raise Unverified(f"its format is {content.get('format')!r}, this version reads {FORMAT}")
    try:
        return Header(**content)
    except TypeError as error:
        raise Unverified(f"its first part is incomplete: {error}") from error


def _unpack(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    folder: Path,
    found: dict[str, dict[str, Any]],
    progress: Progress,
) -> None:
    inside = PurePosixPath(member.name)
    if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] != (DATA,) or len(inside.parts) < 2:
        raise Unverified(f"{member.name!r} leads out of it")
    if not (member.isreg() or member.isdir()):
        raise Unverified(f"{member.name!r} is neither a file nor a folder")
    path = folder.joinpath(*inside.parts[1:])
    if member.isdir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content, sha256 = tar.extractfile(member), hashlib.sha256()
    assert content is not None  # noqa: S101 - a regular file has content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while data := content.read(CHUNK_BYTES):
            sha256.update(data)
            out.write(data)
            progress.add(len(data))
    found[str(PurePosixPath(*inside.parts[1:]))] = {"size": member.size, "sha256": sha256.hexdigest()}


def _compare(manifest: Mapping[str, Any], header: Header, found: Mapping[str, Any]) -> None:
    wanted = manifest.get("files")
    if not isinstance(wanted, dict) or manifest.get("header") != asdict(header):
        raise Unverified("its manifest is of another backup")
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            said = "missing" if name not in found else "not in the manifest" if name not in wanted else "changed"
            raise Unverified(f"{name} is {said}")


def _json(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    content = tar.extractfile(member)
    if content is None or member.size > JSON_BYTES_MAX:
        raise Unverified(f"{member.name} cannot be read")
    try:
        document = json.loads(content.read())
    except ValueError as error:
        raise Unverified(f"{member.name} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise Unverified(f"{member.name} is damaged")
    return document


def _add_json(tar: tarfile.TarFile, name: str, document: Mapping[str, Any]) -> None:
    data = json.dumps(document, sort_keys=True).encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))


def _inside(folder: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(folder))


def _refuse(error: OSError) -> None:
    raise error
