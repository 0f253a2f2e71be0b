"""Backup and restore of a run directory: cold, whole, verified - or not at all.

Cold: both refuse while anything of the run directory runs. The database's files and the object store's are then of one
moment, without a word of agreement between two servers; the price is a `platform down` for as long as it takes.

In it: everything of the run directory but what is made anew at every start (`NOT_KEPT`). It holds `secrets.json` - its
owner's alone, like the run directory. A server that the profile brings itself is not in it.

Neither leaves anything half done: a backup has its name only when it is complete and on the disk, a restore is unpacked
and verified beside the run directory and takes its place by one rename.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from fraud_daemons import __version__
from fraud_daemons.clock import Clock, iso
from fraud_daemons.errors import CommandError
from fraud_daemons.observability.disk import disk_use, size_text
from fraud_daemons.supervision import backup_file
from fraud_daemons.supervision.backup_file import Header, Unverified
from fraud_daemons.supervision.deployment import Deployment
from fraud_daemons.supervision.substrate.binaries import POSTGRES_MAJOR
from fraud_daemons.supervision.survivors import find_survivors
from fraud_daemons.supervision.waiting import Tell, one_at_a_time

NOT_KEPT: Final = frozenset({
    "beats", "locks", "logs", "postgres_logs", "pg", "s3", "postgres.new", "operator.lock",
    "supervisor.sock", "supervisord.pid", "supervisord.conf", "postgres/postmaster.pid",
})  # fmt: skip
"""Of one life of the processes, or made anew at each start."""

OPERATOR_LOCK: Final = "operator.lock"
NAMES_SHOWN_MAX = 3


@dataclass(frozen=True)
class BackupResult:
    """A finished backup: its file, how large it is, and what it says of itself."""

    file: Path
    file_bytes: int
    header: Header
    elapsed_seconds: float


@dataclass(frozen=True)
class RestoreResult:
    """A finished restore, and where the run directory went that stood in its place."""

    header: Header
    moved_aside: Path | None
    elapsed_seconds: float


def backup(deployment: Deployment, file: Path, *, clock: Clock, tell: Tell = lambda _: None) -> BackupResult:
    """Write the run directory to `file`. Raises CommandError, and leaves no file then."""
    begun, run_dir, file = clock.monotonic(), deployment.run_dir, file.absolute()
    _check_target(deployment, file)
    with one_at_a_time(run_dir, clock):
        _refuse_running(deployment, "backup")
        sizes = [path.stat().st_size for _, path, is_folder in _kept(run_dir) if not is_folder]
        header = Header(
            postgres_major=(run_dir / "postgres" / "PG_VERSION").read_text().strip(),
            platform_version=__version__,
            profile=deployment.profile.name,
            created_at=iso(clock.now()),
            files=len(sizes),
            data_bytes=sum(sizes),
        )
        unfinished = file.with_name(f"{file.name}.part")
        try:
            with _part(unfinished) as out:
                backup_file.write(out, header, _kept(run_dir), tell=tell)
                out.flush()
                os.fsync(out.fileno())
                _refuse_existing(file)  # again: it took a while
                unfinished.rename(file)
            _sync_folder(file.parent)
        except OSError as error:
            place = error.filename or unfinished
            raise CommandError(f"the backup cannot be written: {place}: {error.strerror}; nothing was kept") from error
    return BackupResult(file, file.stat().st_size, header, clock.monotonic() - begun)


def restore(
    deployment: Deployment, file: Path, *, replace: bool, clock: Clock, tell: Tell = lambda _: None
) -> RestoreResult:
    """Put the backup in `file` in the place of the run directory. Raises CommandError, and changes nothing then."""
    begun, run_dir = clock.monotonic(), deployment.run_dir.resolve()  # a link to a larger disk stays one
    _refuse_running(deployment, "restore")
    _refuse_data(run_dir, replace=replace)
    with _opened(file) as source, _beside(run_dir) as staging:
        try:
            _check_header(backup_file.read_header(source), file, run_dir)
            source.seek(0)
            header = backup_file.extract(source, staging, tell=tell)
        except Unverified as error:
            raise CommandError(f"{file} does not verify: {error}; nothing was changed") from error
        except OSError as error:
            message = f"the backup cannot be unpacked: {error.filename or staging}: {error.strerror}"
            raise CommandError(f"{message}; nothing was changed") from error
        os.sync()  # every file is on the disk before any of them is the platform's
        # an `up` that began meanwhile is waited for, and is then found running
        with one_at_a_time(run_dir, clock) if run_dir.is_dir() else nullcontext():
            _refuse_running(deployment, "restore")
            moved = _take_place(staging, run_dir, stamp=iso(clock.now())[:19].replace(":", "").replace("-", ""))
    return RestoreResult(header, moved, clock.monotonic() - begun)


def _kept(run_dir: Path) -> Iterator[tuple[PurePosixPath, Path, bool]]:
    return backup_file.files_of(run_dir, left_out=lambda inside: str(inside) in NOT_KEPT)


def _check_target(deployment: Deployment, file: Path) -> None:
    run_dir = deployment.run_dir
    if not deployment.profile.embedded_postgres:
        raise CommandError(
            "PLATFORM_DSN names a PostgreSQL of your own: its data is not in the run directory; back it up with its own tools"
        )
    if not (run_dir / "postgres" / "PG_VERSION").exists():
        raise CommandError(
            f"there is nothing to back up: {run_dir} has no database; the first one is made by: platform up"
        )
    if file.resolve().is_relative_to(run_dir.resolve()):
        raise CommandError(
            f"{file} lies in the run directory, which would then be in itself; choose a place outside {run_dir}"
        )
    _refuse_existing(file)
    if not file.parent.is_dir():
        raise CommandError(f"there is no folder {file.parent}; make it, or give another one")


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise CommandError(f"{file} exists; nothing was written over, give another name")


def _refuse_running(deployment: Deployment, command: str) -> None:
    running = find_survivors(deployment.run_dir)
    if running:
        names = ", ".join(str(survivor) for survivor in running[:NAMES_SHOWN_MAX])
        more = f" and {len(running) - NAMES_SHOWN_MAX} more" if len(running) > NAMES_SHOWN_MAX else ""
        raise CommandError(f"the platform runs ({names}{more}); first: platform down, then: platform {command}")


def _refuse_data(run_dir: Path, *, replace: bool) -> None:
    if not replace and _holds_something(run_dir):
        raise CommandError(f"{run_dir} is not empty; to move it aside and restore in its place: --replace")


def _holds_something(run_dir: Path) -> bool:
    try:
        return any(path.name != OPERATOR_LOCK for path in run_dir.iterdir())
    except FileNotFoundError:
        return False


def _check_header(header: Header, file: Path, run_dir: Path) -> None:
    if header.postgres_major != str(POSTGRES_MAJOR):
        message = f"{file} holds a database of PostgreSQL {header.postgres_major}, this platform runs {POSTGRES_MAJOR}"
        raise CommandError(f"{message}; restore it with the version that made it ({header.platform_version})")
    free = disk_use(run_dir.parent).free_bytes
    if header.data_bytes > free:
        wanted = size_text(header.data_bytes)
        raise CommandError(
            f"{wanted} are to be unpacked and {size_text(free)} are free at {run_dir.parent}; free space"
        )


def _take_place(staging: Path, run_dir: Path, *, stamp: str) -> Path | None:
    """The one moment of a restore: a rename, or two of them with something to move aside."""
    moved = None
    try:
        if _holds_something(run_dir):
            moved = run_dir.with_name(f"{run_dir.name}.before-{stamp}")
            run_dir.rename(moved)
        else:
            (run_dir / OPERATOR_LOCK).unlink(missing_ok=True)
        staging.rename(run_dir)
    except OSError as error:
        if moved and not run_dir.exists():
            moved.rename(run_dir)
        raise CommandError(f"{run_dir} cannot be replaced: {error.strerror}; it is as it was") from error
    _sync_folder(run_dir.parent)
    return moved


@contextmanager
def _part(path: Path) -> Iterator[IO[bytes]]:
    """A file that only this process writes, gone afterwards unless renamed; what a killed backup left is overwritten."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
        _lock(out.fileno(), f"another backup is being written to {path}")
        try:
            os.fchmod(out.fileno(), 0o600)
            out.truncate(0)
            yield out
        finally:
            path.unlink(missing_ok=True)


def _lock(descriptor: int, refusal: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CommandError(f"{refusal}; wait for it or end it") from None


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    try:
        source = file.open("rb")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    with source:
        yield source


@contextmanager
def _beside(run_dir: Path) -> Iterator[Path]:
    """An empty folder beside the run directory, one restore's own; gone afterwards unless it was renamed away."""
    staging = run_dir.with_name(f"{run_dir.name}.restoring")
    staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, f"another restore is at work in {staging}")
        try:
            for left in staging.iterdir():  # by a restore that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
