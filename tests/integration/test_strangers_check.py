"""scripts/check_run: plain SQL and listings reach the report's verdict line by line, on a good run and on every spoiled one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fraud_daemons.supervision.substrate.objectstore import ObjectStore
from fraud_daemons.workers.obs_gov._equations import LINES
from tests.integration.planted_defects import PLANTS, Objects
from tests.integration.test_run_reporter import balance, lose_and_double_a_binding, planted
from tests.integration.whole_line import ask_for_report, reporter, whole_run
from tests.line import ROOT, Line

SCRIPT = ROOT / "scripts" / "check_run"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module; it imports nothing of the platform."""
    loader = SourceFileLoader("check_run", str(SCRIPT))
    spec = importlib.util.spec_from_loader("check_run", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_run"] = module
    loader.exec_module(module)
    return module


def run_script(line: Line, store: ObjectStore) -> subprocess.CompletedProcess[str]:
    """The script as a stranger calls it, with nothing of the project on its path."""
    environment = {
        "PATH": os.environ["PATH"], "CHECK_DSN": line.dsn, "CHECK_WORLDS": str(line.run_dir / "worlds"),
        "CHECK_S3_ENDPOINT": store.endpoint, "CHECK_S3_BUCKET": store.bucket,
        "AWS_ACCESS_KEY_ID": store.writer_access_key, "AWS_SECRET_ACCESS_KEY": store.writer_secret_key,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-I", SCRIPT, line.run],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_uses_none_of_the_platforms_code() -> None:
    """Neither an import of the package nor the word for it."""
    assert "fraud_daemons" not in SCRIPT.read_text()


def test_on_a_good_run_it_says_what_the_report_says(finished: Line, object_store: ObjectStore) -> None:
    """Every line holds, and the newest report in the store says the same, line by line."""
    done = run_script(finished, object_store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"verdict  PASS: {len(LINES)} lines" in done.stdout
    assert "says PASS: the same, line by line" in done.stdout
    assert done.stdout.count("missing 0  surplus 0") == len(LINES)


def test_a_run_that_does_not_exist_is_no_pass(finished: Line, object_store: ObjectStore) -> None:
    """Nothing equals nothing on every line, and that is not good."""
    done = run_script(_renamed(finished, "platform_18990101T000000Z"), object_store)
    assert done.returncode == 1
    assert "verdict  FAIL" in done.stdout


def _renamed(line: Line, run: str) -> Line:
    other = Line(line.dsn, run_dir=line.run_dir, make_store=line.make_store, run=run)
    other.run = run
    return other


@pytest.mark.parametrize("name", PLANTS)
def test_it_names_what_the_report_names(finished: Line, objects: Objects, script: ModuleType, name: str) -> None:
    """One lost and one doubled record in the stage on the right of each line: the same ids, missing and surplus."""
    page = (ROOT / "docs" / "EQUATIONS.md").read_text()
    [told] = [line for line in script.lines_of(page) if line.name == name]
    with planted(finished, objects, name) as (readers, _):
        equation = next(line for line in LINES if line.name == name)
        report = balance(readers, equation, finished.run)

        def ask(_dsn: str, sql: str) -> list[tuple[Any, ...]]:
            statement = sql.replace("%", "%%").replace(":'run'", "%(run)s")
            with readers.database_of("").scope() as connection:
                return connection.execute(statement.encode(), {"run": finished.run}).fetchall()

        def listing(prefix: str) -> Iterator[tuple[str, bytes]]:
            return ((key, objects.get(key)) for key in objects.keys(prefix))

        mine = script.balance(told, script.Stores(finished.run, ask, listing, finished.run_dir / "worlds"))
    assert {word: mine[word] for word in ("count", "missing", "surplus", "dead_lettered")} == {
        word: report[word] for word in ("count", "missing", "surplus", "dead_lettered")
    }
    assert mine["missing"] == 1
    assert {f"missing {one}" for one in mine["examples"][: mine["missing"]]} <= set(report["examples"])


def test_a_spoiled_run_fails_by_both(line: Line, object_store: ObjectStore, short_dir: Path) -> None:
    """A lost and a doubled binding, committed: the script fails and agrees with the report that was made after it."""
    whole_run(line, short_dir)
    named = lose_and_double_a_binding(line)
    report = ask_for_report(line, reporter(line))
    assert report is not None
    assert report["verdict"] == "FAIL"
    done = run_script(line, object_store)
    assert done.returncode == 1
    assert named.lost in done.stdout
    assert "says FAIL: the same, line by line" in done.stdout
