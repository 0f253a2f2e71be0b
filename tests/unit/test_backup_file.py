"""Backup and restore of a run directory in which nothing runs: made-up data, real files, every refusal."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from fraud_daemons.clock import SystemClock
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import CommandError
from fraud_daemons.supervision import backup as backups
from fraud_daemons.supervision import backup_file
from fraud_daemons.supervision.backup import backup, restore
from fraud_daemons.supervision.deployment import Deployment, deployment_of
from fraud_daemons.supervision.substrate.binaries import POSTGRES_MAJOR

ROOT = Path(__file__).parents[2]
CLOCK = SystemClock()


def deployed(run_dir: Path) -> Deployment:
    profile = load_profile("local_parity", root=ROOT, environment={}, overrides={"profile.run_dir": str(run_dir)})
    return deployment_of(profile, packs=())


@pytest.fixture
def place(short_dir: Path) -> Path:
    """A folder with a run directory `run`, as far as a backup looks at one."""
    run = short_dir / "run"
    for folder in ("postgres/pg_notify", "postgres/base/1", "objects", "logs", "pg"):
        (run / folder).mkdir(parents=True)
    (run / "postgres/PG_VERSION").write_text(f"{POSTGRES_MAJOR}\n")
    (run / "postgres/base/1/1259").write_bytes(os.urandom(3 << 20))
    (run / "postgres/postmaster.pid").write_text("1\n")
    (run / "objects/1.dat").write_bytes(b"")
    (run / "secrets.json").write_text("{}")
    (run / "logs/gate.log").write_text("said\n")
    (run / "secrets.json").chmod(0o600)
    return short_dir


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below `folder` with its bytes; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "operator.lock"
    }


def test_what_was_kept_comes_back_and_nothing_else(place: Path) -> None:
    """Same paths, same bytes, empty folders too; what one life of the processes made is left out; all of it private."""
    run, file = place / "run", place / "b.tar.gz"
    before, told = contents(run), list[str]()
    done = backup(deployed(run), file, clock=CLOCK, tell=told.append)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (done.header.files, done.header.postgres_major) == (4, str(POSTGRES_MAJOR))
    assert told[-1] == "backup: 3 MiB of 3 MiB"
    other = place / "other"
    restore(deployed(other), file, replace=False, clock=CLOCK)
    gone = {"logs", "logs/gate.log", "pg", "postgres/postmaster.pid"}
    assert contents(other) == {path: data for path, data in before.items() if path not in gone}
    assert {path.stat().st_mode & 0o077 for path in other.rglob("*")} == {0}
    assert sorted(path.name for path in place.iterdir()) == ["b.tar.gz", "other", "run"]


def test_a_full_place_is_refused_or_moved_aside(place: Path) -> None:
    """Without --replace nothing is touched; with it the old run directory is kept under another name."""
    run, file = place / "run", place / "b.tar.gz"
    backup(deployed(run), file, clock=CLOCK)
    (run / "secrets.json").write_text("newer")
    before = contents(run)
    with pytest.raises(CommandError, match=r"not empty.*--replace"):
        restore(deployed(run), file, replace=False, clock=CLOCK)
    assert contents(run) == before
    done = restore(deployed(run), file, replace=True, clock=CLOCK)
    assert done.moved_aside is not None
    assert contents(done.moved_aside) == before
    assert (run / "secrets.json").read_text() == "{}"


@pytest.mark.parametrize("damage", ["cut", "header cut", "a byte", "the last byte", "no backup", "empty"])
def test_a_damaged_file_is_refused_and_nothing_is_changed(place: Path, damage: str) -> None:
    """Whatever is wrong with the file, the run directory stays as it was and nothing is left beside it."""
    run, file = place / "run", place / "b.tar.gz"
    backup(deployed(run), file, clock=CLOCK)
    good = file.read_bytes()
    middle = len(good) // 2
    file.write_bytes({
        "cut": good[:-200_000],
        "header cut": good[:100],
        "a byte": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "the last byte": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "no backup": b"something else",
        "empty": b"",
    }[damage])  # fmt: skip
    before = contents(run)
    with pytest.raises(CommandError, match=r"does not verify: .*nothing was changed"):
        restore(deployed(run), file, replace=True, clock=CLOCK)
    assert contents(run) == before
    assert sorted(path.name for path in place.iterdir()) == ["b.tar.gz", "run"]


def test_every_byte_of_a_small_backup_counts(place: Path) -> None:
    """Cut short anywhere, a backup is refused."""
    run, file = place / "run", place / "b.tar.gz"
    (run / "postgres/base/1/1259").write_bytes(b"x")
    backup(deployed(run), file, clock=CLOCK)
    good = file.read_bytes()
    for length in range(0, len(good), 7):
        file.write_bytes(good[:length])
        with pytest.raises(CommandError, match="does not verify"):
            restore(deployed(place / "other"), file, replace=False, clock=CLOCK)
    assert not (place / "other").exists()


def rewritten(file: Path, change: str) -> None:
    """The same backup with one thing changed inside, and whole again for gzip and tar."""
    parts: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(file) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            parts.append((member, content.read() if content else b""))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, data in parts:
            if change == "file left out" and member.name.endswith("1259"):
                continue
            if change == "other bytes" and member.name.endswith("1259"):
                data = b"y" * len(data)
            if change == "another major" and member.name == "backup.json":
                data = data.replace(f'"{POSTGRES_MAJOR}"'.encode(), b'"17"')
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            if change in ("../out", "data/../../out", "/elsewhere/out") and member.name == "backup.json":
                tar.addfile(tarfile.TarInfo(change))
            if change == "a link" and member.name == "backup.json":
                link = tarfile.TarInfo("data/link")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc"
                tar.addfile(link)
            if change == "one more" and member.name == "backup.json":
                tar.addfile(tarfile.TarInfo("data/more"))
    file.write_bytes(gzip.compress(out.getvalue()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("file left out", "postgres/base/1/1259 is missing"),
        ("other bytes", "postgres/base/1/1259 is changed"),
        ("one more", "more is not in the manifest"),
        ("../out", "leads out of it"),
        ("data/../../out", "leads out of it"),
        ("/elsewhere/out", "leads out of it"),
        ("a link", "neither a file nor a folder"),
        ("another major", "PostgreSQL 17, this platform runs"),
    ],
)
def test_a_whole_file_with_a_lie_in_it_is_refused(place: Path, change: str, said: str) -> None:
    """gzip and tar are content, the manifest is not; another PostgreSQL major is refused before anything is unpacked."""
    run, file = place / "run", place / "b.tar.gz"
    backup(deployed(run), file, clock=CLOCK)
    rewritten(file, change)
    with pytest.raises(CommandError, match=said):
        restore(deployed(place / "other"), file, replace=False, clock=CLOCK)
    assert sorted(path.name for path in place.iterdir()) == ["b.tar.gz", "run"]


def test_a_backup_is_not_written_where_it_must_not_be(place: Path) -> None:
    """Over another file, into the run directory, of a link: one line each, and nothing is left."""
    run = place / "run"
    (place / "there").write_text("older")
    with pytest.raises(CommandError, match="exists"):
        backup(deployed(run), place / "there", clock=CLOCK)
    with pytest.raises(CommandError, match="lies in the run directory"):
        backup(deployed(run), run / "b.tar.gz", clock=CLOCK)
    with pytest.raises(CommandError, match="nothing to back up"):
        backup(deployed(place / "none"), place / "b.tar.gz", clock=CLOCK)
    (run / "worlds").symlink_to(place)
    with pytest.raises(CommandError, match="is a link"):
        backup(deployed(run), place / "b.tar.gz", clock=CLOCK)
    assert (place / "there").read_text() == "older"
    assert sorted(path.name for path in place.iterdir()) == ["run", "there"]


def test_a_full_disk_leaves_nothing_half_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while writing a backup, and while unpacking one: one line, no part of it stays, the platform is as it was."""
    run, file = place / "run", place / "b.tar.gz"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CommandError, match="No space left on device; nothing was kept"):
            backup(deployed(run), file, clock=CLOCK)
    assert sorted(path.name for path in place.iterdir()) == ["run"]
    backup(deployed(run), file, clock=CLOCK)
    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr(backup_file, "_unpack", full)
        with pytest.raises(CommandError, match="No space left on device; nothing was changed"):
            restore(deployed(run), file, replace=True, clock=CLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(backups, "disk_use", lambda path: type("Use", (), {"free_bytes": 1 << 20}))
        with pytest.raises(CommandError, match="3 MiB are to be unpacked and 1 MiB are free"):
            restore(deployed(run), file, replace=True, clock=CLOCK)
    assert contents(run) == before
    assert sorted(path.name for path in place.iterdir()) == ["b.tar.gz", "run"]


def test_what_a_killed_command_left_is_in_nobodys_way(place: Path) -> None:
    """The part of a killed backup and the folder of a killed restore are used again, and gone afterwards."""
    run, file = place / "run", place / "b.tar.gz"
    (place / "b.tar.gz.part").write_bytes(b"x" * 5_000_000)
    (place / "run.restoring/postgres").mkdir(parents=True)
    (place / "run.restoring/postgres/PG_VERSION").write_text("9")
    backup(deployed(run), file, clock=CLOCK)
    assert file.stat().st_size < 5_000_000
    restore(deployed(run), file, replace=True, clock=CLOCK)
    assert (run / "postgres/PG_VERSION").read_text() == f"{POSTGRES_MAJOR}\n"
    assert len(list(place.iterdir())) == 3
