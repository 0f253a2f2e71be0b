"""Backup and restore of a whole platform, by command: the old run is the same afterwards and the next stream goes on."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.system.platform_under_test import COMMAND, ROOT, PlatformUnderTest, wait_until
from tests.system.test_the_line import assert_every_equation_holds
from tests.system.test_whatever_is_killed import digests

FIRST, SECOND = 30, 20
FILE_KIB_MAX = 200
SMALL_OBJECTS = {"PLATFORM_EVIDENCE_SEGMENT_RECORDS_MAX": "10"}
"""What shares an object with a partition's newest record is never trimmed."""
TRIMMING = {**SMALL_OBJECTS, "PLATFORM_TRIM_LOG_AGE_SECONDS": "0", "PLATFORM_TRIM_INTERVAL_SECONDS": "0.2"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for two run directories and a backup; whatever still runs there is ended."""
    path = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    yield path
    for run in (path / "a", path / "b"):
        PlatformUnderTest(run).kill_what_is_left()
    shutil.rmtree(path, ignore_errors=True)


def refused(platform: PlatformUnderTest, *words: str, saying: str, file_kib_max: int | None = None) -> None:
    """The command ends with 1 and one line that says why; with `file_kib_max` no file can grow beyond that."""
    limit = f"ulimit -f {file_kib_max}; " if file_kib_max else ""
    done = subprocess.run(
        ["bash", "-c", f'{limit}exec "$@"', "-", str(COMMAND), *words],
        cwd=ROOT, env=platform.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, saying in done.stderr) == (1, True), (done.returncode, done.stdout, done.stderr)


def of_another_major(file: Path, target: Path) -> None:
    """The same backup, made by PostgreSQL 17 if one believes its first part."""
    with tarfile.open(file) as tar, tarfile.open(target, "w:gz") as out:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            data = content.read() if content else b""
            if member.name == "backup.json":
                data = json.dumps({**json.loads(data), "postgres_major": "17"}).encode()
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
            if member.name == "backup.json":
                break


def damaged(file: Path, target: Path) -> None:
    """One byte in the middle is another."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)


def trimmed_topics(platform: PlatformUnderTest) -> set[str]:
    """Topics of which something is not on the bus any more."""
    with psycopg.connect(platform.dsn()) as connection:
        return {row[0] for row in connection.execute("select distinct topic from bus.trimmed")}


def counted(report: Any) -> dict[str, Any]:
    """What two reports of one run must have in common; each report counts those before it."""
    lines = {e["name"]: (e["count"], e["missing"], e["surplus"]) for e in report["equations"]}
    del lines["reports_equal_report_objects"]
    return {"lines": lines, "stages": report["stages"], "outputs": report["outputs"], "terms": report["terms"]}


def test_a_backup_restored_elsewhere_is_the_same_platform(folder: Path) -> None:
    """Down, backup, restore into another run directory, up: the report of the old run and its decisions are the same, every
    repeat of the stream is a DUPLICATE, a further stream goes on behind the cursor. Each wrong input is refused by command.
    The second platform trims its bus as fast as it may, and all of this stays so."""
    old = PlatformUnderTest(folder / "a", environment=SMALL_OBJECTS)
    new = PlatformUnderTest(folder / "b", environment=TRIMMING)
    file = folder / "backup.tar.gz"
    old.up()
    old.say("posture", "pin", "NORMAL", "--reason", "runs are compared")
    old.make_world("demo", FIRST + SECOND)
    run = old.new_run()
    old.stream("demo", "--max-events-per-output", str(FIRST))
    before, decided = old.report(), digests(old, run)
    assert_every_equation_holds(before)
    refused(old, "backup", str(file), saying="the platform runs")
    old.down()
    refused(old, "backup", str(file), saying="File too large; nothing was kept", file_kib_max=FILE_KIB_MAX)
    assert sorted(path.name for path in folder.iterdir()) == ["a"]
    said = old.say("backup", str(file))
    assert (said["holds_secrets"], said["not_in_it"]) == (True, [])
    refused(old, "backup", str(file), saying="exists")
    refused(old, "restore", str(file), saying="--replace")
    _refuse_what_is_wrong(new, file, folder)
    assert new.say("restore", str(file))["moved_aside"] is None
    new.up()
    refused(new, "restore", str(file), "--replace", saying="the platform runs")
    wait_until(lambda: {"traffic", "flows.bound", "decisions"} <= trimmed_topics(new), seconds=60, what="trimming")
    again = new.report()
    assert_every_equation_holds(again)
    assert counted(again) == counted(before)
    assert digests(new, run) == decided
    repeat = new.stream("demo", "--from", "start", "--max-events-per-output", str(FIRST))
    assert {o["duplicate"] for o in repeat["outputs"].values()} >= {FIRST}
    assert digests(new, run) == decided, "repeats decided nothing"
    new.stream("demo", "--max-events-per-output", str(SECOND))
    assert_every_equation_holds(new.report())
    assert len(digests(new, run)) == FIRST + SECOND, "behind the cursor"
    stored = new.status()["disk"]["stored_bytes"]
    assert stored["database"] > stored["log"] > 0
    assert stored["objects"] > 0
    new.down()
    assert new.processes() == []


def _refuse_what_is_wrong(platform: PlatformUnderTest, file: Path, folder: Path) -> None:
    """A damaged file, one of another major version, no backup at all, a disk without room: nothing is changed by them."""
    wrong = folder / "wrong.tar.gz"
    damaged(file, wrong)
    refused(platform, "restore", str(wrong), saying="does not verify")
    of_another_major(file, wrong)
    refused(platform, "restore", str(wrong), saying="PostgreSQL 17, this platform runs")
    wrong.write_bytes(gzip.compress(os.urandom(1000)))
    refused(platform, "restore", str(wrong), saying="does not verify")
    refused(platform, "restore", str(folder / "none"), saying="cannot be read")
    refused(platform, "restore", str(file), saying="File too large; nothing was changed", file_kib_max=FILE_KIB_MAX)
    wrong.unlink()
    assert sorted(path.name for path in folder.iterdir()) == ["a", "backup.tar.gz"]
