"""Wrong credentials, schemas, copies and imports on one small real platform, damaged in turn: each has a clear answer.

The order of these tests does not matter.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fraud_daemons.errors import ExitCode
from tests.system.platform_under_test import COMMAND, ROOT, PlatformUnderTest, wait_until

PACKS = "case_labels,obs_gov"


@pytest.fixture(scope="module")
def small() -> Iterator[PlatformUnderTest]:
    """A running platform of two packs on its own substrate."""
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    environment = {"PLATFORM_PROFILE_PACKS": PACKS, "PLATFORM_CONFORMANCE_INTERVAL_SECONDS": "2"}
    platform = PlatformUnderTest(folder / "run", environment=environment)
    try:
        platform.up()
        yield platform
    finally:
        platform.call("down")
        platform.kill_what_is_left()
        shutil.rmtree(folder, ignore_errors=True)


def _owner(platform: PlatformUnderTest) -> psycopg.Connection[Any]:
    return psycopg.connect(platform.dsn(), autocommit=True)


def _rewrite_secret(platform: PlatformUnderTest, family: str, name: str, value: str) -> str:
    """Put another secret in place; returns the old one."""
    path = platform.run_dir / "secrets.json"
    content = json.loads(path.read_text())
    old = str(content[family][name])
    content[family][name] = value
    path.write_text(json.dumps(content))
    return old


def test_a_database_newer_than_the_code(small: PlatformUnderTest) -> None:
    """up refuses a database with a migration it does not know, with the way out; check says the same; nothing changes."""
    with _owner(small) as connection:
        connection.execute(
            "insert into _yoyo_migration (migration_hash, migration_id, applied_at_utc) values ('f', 'zz_9999_future', now())"
        )
        try:
            refused = small.call("up")
            checked = small.say("check", codes=(ExitCode.NO,))
        finally:
            connection.execute("delete from _yoyo_migration where migration_id = 'zz_9999_future'")
    assert refused.returncode == ExitCode.CONFIGURATION
    assert "newer than this code: it has migrations zz_9999_future" in refused.stderr
    assert "start the version that made it, or restore a backup" in refused.stderr
    (problem,) = [check["problem"] for check in checked["checks"] if check["problem"]]
    assert "zz_9999_future" in problem
    small.up()


def test_a_password_that_never_worked(small: PlatformUnderTest) -> None:
    """A restarted worker whose password is wrong waits out the grace, then is held with 28P01; put right, resume starts it."""
    old = _rewrite_secret(small, "postgres", "fp_case_trigger", "wrong")
    try:
        answer = small.say("restart", "case_trigger", "--timeout", "40", codes=(ExitCode.NO,))
        worker = small.workers()["case_trigger"]
        conforms = _conforms(small, "case_trigger")
    finally:
        _rewrite_secret(small, "postgres", "fp_case_trigger", old)
    assert worker["status"] == "held"
    assert re.match(r"config: postgres: 28P01\b", worker["reason"])
    (blocker,) = answer["blocking"]
    assert "28P01" in blocker["reason"]
    assert (conforms["verdict"], conforms["remedy"]) == ("FAIL", "put it right, then: platform resume case_trigger")
    assert re.search(r"which is gone; now held \(config: postgres: 28P01", conforms["observed"])
    assert small.say("resume", "case_trigger")["ready"]
    assert _conforms(small, "case_trigger")["verdict"] == "PASS"


def test_the_last_word_of_a_dead_worker_is_no_conformance(small: PlatformUnderTest) -> None:
    """Stopped by the operator it is a named FAIL, in the command and in the worker that watches; started, PASS in both."""
    small.say("stop", "label_store")
    try:
        stopped = _conforms(small, "label_store")
        _await_watched(small, lambda named: "worker label_store" in named)
    finally:
        small.say("start", "label_store")
    assert (stopped["verdict"], stopped["remedy"]) == ("FAIL", "platform start label_store")
    assert "which is gone; now stopped" in stopped["observed"]
    assert _conforms(small, "label_store")["verdict"] == "PASS"
    _await_watched(small, lambda named: "worker label_store" not in named)


def _conforms(platform: PlatformUnderTest, worker: str) -> dict[str, Any]:
    """What `platform conformance` says of one worker; of a platform of two packs it cannot know everything."""
    codes = (ExitCode.GOOD, ExitCode.NO, ExitCode.UNKNOWN)
    checks: list[dict[str, Any]] = platform.say("conformance", codes=codes)["checks"]
    return next(check for check in checks if check["check"] == f"worker {worker}")


def _await_watched(platform: PlatformUnderTest, good: Callable[[list[str]], bool]) -> None:
    """Until environment_conformance's own last round says so; before its first it says nothing."""
    beat = platform.run_dir / "beats/environment_conformance.json"

    def said() -> bool:
        last_round = json.loads(beat.read_text())["detail"].get("conformance")
        return bool(last_round) and good(last_round["not_passed"])

    wait_until(said, seconds=30, what="a round of environment_conformance")


def test_an_owner_password_that_is_wrong(small: PlatformUnderTest) -> None:
    """up says at once that our own server refuses the password instead of waiting out its deadline."""
    old = _rewrite_secret(small, "postgres", "fp_owner", "wrong")
    try:
        refused = small.call("up", "--timeout", "60", timeout=30)
        checked = small.call("check")
    finally:
        _rewrite_secret(small, "postgres", "fp_owner", old)
    assert refused.returncode == ExitCode.NO
    assert "password authentication failed" in refused.stderr
    assert checked.returncode == ExitCode.NO
    assert "28P01" in checked.stdout


def test_a_bucket_that_refuses(small: PlatformUnderTest) -> None:
    """With a wrong key the worker waits and shows the S3 code, check says it too; put right, the same work goes on."""
    small.new_run()
    old = _rewrite_secret(small, "objectstore", "writer_secret_key", "wrong")
    asking = None
    try:
        checked = small.call("check")
        small.say("restart", "run_reporter")
        asking = subprocess.Popen(
            [str(COMMAND), "report", "--json"], cwd=ROOT, env=small.environment, stdout=subprocess.DEVNULL
        )
        reason = wait_until(
            lambda: (w := small.workers()["run_reporter"])["status"] == "running waiting" and w["reason"],
            seconds=30,
            what="the reporter waiting for the store",
        )
    finally:
        _rewrite_secret(small, "objectstore", "writer_secret_key", old)
    assert checked.returncode == ExitCode.NO
    assert "SignatureDoesNotMatch" in checked.stdout
    assert reason.startswith("object store: SignatureDoesNotMatch")
    assert asking.wait(60) in (ExitCode.GOOD, ExitCode.NO)
    assert small.workers()["run_reporter"]["ready"]


def test_a_second_copy_by_hand(small: PlatformUnderTest) -> None:
    """A copy in a terminal says who holds the lock, leaves the other's heartbeat alone, and goes on Ctrl-C."""
    holder = small.pid("label_store")
    second = subprocess.Popen(
        [sys.executable, "-m", "fraud_daemons.cli.main", "worker", "run", "label_store"],
        cwd=ROOT, env=small.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stderr is not None
    said = second.stderr.readline()
    assert f"another copy holds the lock: pid {holder}" in said
    assert small.workers()["label_store"]["ready"]
    second.send_signal(signal.SIGINT)
    assert second.wait(10) == ExitCode.GOOD
    assert small.pid("label_store") == holder


def test_a_worker_in_a_terminal(small: PlatformUnderTest) -> None:
    """Outside supervisord a worker works like inside, and Ctrl-C drains it: exit code 0, no traceback."""
    small.say("stop", "label_store")
    beat = small.run_dir / "beats/label_store.json"
    alone = subprocess.Popen(
        [sys.executable, "-m", "fraud_daemons.cli.main", "worker", "run", "label_store"],
        cwd=ROOT, env=small.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(
            lambda: (b := json.loads(beat.read_text()))["pid"] == alone.pid and b["state"] == "ready",
            seconds=30,
            what="the worker in the terminal being ready",
        )
    finally:
        alone.send_signal(signal.SIGINT)
    _, said = alone.communicate(timeout=15)
    assert alone.returncode == ExitCode.GOOD
    assert "Traceback" not in said
    assert json.loads(beat.read_text())["state"] == "stopping"
    small.say("start", "label_store")


BROKEN_IMPORT = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "fraud_daemons.workers.obs_gov.run_reporter":
            raise ImportError("no module named nonsense")
sys.meta_path.insert(0, Broken())
"""


def test_a_worker_that_cannot_be_imported(short_dir: Path) -> None:
    """up gives up after the third death, long before its deadline, and shows the worker's last words once."""
    (short_dir / "path").mkdir()
    (short_dir / "path/sitecustomize.py").write_text(BROKEN_IMPORT)
    environment = {"PLATFORM_PROFILE_PACKS": "obs_gov", "PYTHONPATH": str(short_dir / "path")}
    platform = PlatformUnderTest(short_dir / "run", environment=environment)
    try:
        refused = platform.call("up", "--timeout", "90", timeout=60)
        events = platform.call("events", "-n", "3").stdout
        checked = platform.call("check")
    finally:
        platform.call("down")
        platform.kill_what_is_left()
    assert refused.returncode == ExitCode.NO
    said = refused.stderr.strip().splitlines()[-1]
    assert said.startswith("error: run_reporter is running failing (exit 70")
    assert "times in a row" in said
    assert said.count("no module named nonsense") == 1
    assert max(map(len, events.splitlines())) <= 160
    assert checked.returncode == ExitCode.NO
    assert (
        "WRONG  worker obs_gov/run_reporter: cannot be imported: ImportError: no module named nonsense"
        in checked.stdout
    )
