"""An upgrade with state: what the previously landed version left behind is read, migrated and continued by this one.

The older version is its own code, taken from the history of this repository and run with the same environment: nothing
was recorded that could differ from what that version really wrote. A clone without that history skips and says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.platform_under_test import COMMAND_TIMEOUT_SECONDS, ROOT, PlatformUnderTest
from tests.system.test_backup_restore import counted
from tests.system.test_the_line import assert_every_equation_holds
from tests.system.test_whatever_is_killed import digests

PREVIOUS = "de90ce86769f3c7fdb0df74e3c1120b19e002957"
"""Near the end of the version that was landed before this one: ten workers, no graph, no archive, no labels in features."""
FIRST, SECOND = 60, 40


class Previous(PlatformUnderTest):
    """The older version: its code and packs in `root`, run by an interpreter that finds that code and this environment's
    packages. No variable says so: the supervisor hands on only those it knows."""

    def __init__(self, root: Path, run_dir: Path) -> None:
        super().__init__(run_dir)
        self._root, self._python = root, root / ".venv" / "bin" / "python"
        venv.create(root / ".venv", symlinks=True)
        own = next((root / ".venv" / "lib").glob("python3*")) / "site-packages"
        (own / "previous.pth").write_text(f"{root}\n{sysconfig.get_path('purelib')}\n")
        for program in Path(sysconfig.get_path("scripts")).iterdir():  # the object store's binary is one
            if program.name != "platform" and not (self._python.parent / program.name).exists():
                (self._python.parent / program.name).symlink_to(program)

    def call(self, *words: str, timeout: float = COMMAND_TIMEOUT_SECONDS) -> subprocess.CompletedProcess[str]:
        program = [str(self._python), "-c", "import sys; from fraud_daemons.cli.main import main; sys.exit(main())"]
        return subprocess.run(
            [*program, *words], cwd=self._root, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """The older version's code in `old`, room for the run directory `run`."""
    packed = subprocess.run(["git", "archive", PREVIOUS], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the history of this clone does not hold {PREVIOUS[:7]}: {packed.stderr.decode().strip()}")
    path = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    (path / "old").mkdir()
    subprocess.run(["tar", "-x", "-C", str(path / "old")], input=packed.stdout, check=True)
    yield path
    PlatformUnderTest(path / "run").kill_what_is_left()
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.slow
def test_the_state_of_the_version_before_goes_on(folder: Path) -> None:
    """Streamed and taken down by the older version, brought up by this one: migrations apply, the old run's report passes
    with every decision as it was, repeats are DUPLICATE, and the stream goes on behind the cursor with every line holding."""
    old, new = Previous(folder / "old", folder / "run"), PlatformUnderTest(folder / "run")
    old.up()
    old.say("posture", "pin", "NORMAL", "--reason", "runs are compared")
    old.make_world("demo", FIRST + SECOND)
    run = old.new_run()
    old.stream("demo", "--max-events-per-output", str(FIRST))
    before, decided = old.report(), digests(old, run)
    assert_every_equation_holds(before)
    old.down()
    assert new.up()["ready"]
    after = new.report()
    assert_every_equation_holds(after)
    assert counted(before)["lines"].items() <= counted(after)["lines"].items()
    assert digests(new, run) == decided
    repeat = new.stream("demo", "--from", "start", "--max-events-per-output", str(FIRST))
    assert {o["duplicate"] for o in repeat["outputs"].values()} >= {FIRST}
    assert digests(new, run) == decided, "repeats decided nothing"
    new.stream("demo", "--max-events-per-output", str(SECOND))
    assert_every_equation_holds(new.report())
    assert len(digests(new, run)) == FIRST + SECOND
    fresh = new.new_run()
    new.stream("demo", "--max-events-per-output", str(FIRST))
    assert_every_equation_holds(new.report())
    assert len(digests(new, fresh)) == FIRST
    new.down()
    assert new.processes() == []
