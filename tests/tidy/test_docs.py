"""Pages that agree with the code: what can be compared is compared, so that a page cannot quietly become untrue."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fraud_daemons.cli.main import COMMANDS
from fraud_daemons.config.dsns import NAMES, SCHEMA_OF
from fraud_daemons.config.packs import load_packs
from fraud_daemons.errors import ExitCode

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_equations_page_is_what_the_report_computes() -> None:
    """docs/EQUATIONS.md is written from the lines of the report; when it differs: scripts/write_equations_doc."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_equations_doc"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_figures_in_reliability_are_those_that_were_measured() -> None:
    """docs/RELIABILITY.md and its picture are written from docs/measurements; when they differ: scripts/write_reliability_doc."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_reliability_doc"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    dead = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_in_pages_exist(page: Path) -> None:
    """A page tells nobody to run a command that is not there."""
    named = set(re.findall(r"(?:^|`|\$ |; |bin/)platform ([a-z]+)\b", page.read_text(), flags=re.M))
    assert named <= set(COMMANDS), f"no such command: {named - set(COMMANDS)}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_tests_named_in_pages_exist(page: Path) -> None:
    """A page names tests as `path.py::test`; without a path it is the file named last."""
    file, gone = "", []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`", page.read_text()):
        file = path or file
        if file and not ((ROOT / file).is_file() and f"def {name}" in (ROOT / file).read_text()):
            gone.append(f"{file}::{name}")
    assert not gone


def test_every_worker_is_in_the_picture_and_in_the_contracts() -> None:
    """A newcomer finds each worker of the packs in the README's picture, and its shapes in CONTRACTS.md."""
    workers = [worker for pack in load_packs(ROOT) for worker in pack.workers]
    readme, contracts = (ROOT / "README.md").read_text(), (ROOT / "docs" / "CONTRACTS.md").read_text()
    assert not [worker for worker in workers if worker not in readme or f"`{worker}`" not in contracts]


def test_the_table_of_dsn_names_is_whole() -> None:
    """Each DSN name stands in ARCHITECTURE.md with its schema, and no other does."""
    table = (ROOT / "docs" / "ARCHITECTURE.md").read_text().partition("<!-- dsn-table -->")[2]
    rows = set(re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \|", table, flags=re.M))
    assert {name for name, _ in rows} == set(NAMES)
    assert {(name, schema) for name, schema in rows if name in SCHEMA_OF} == set(SCHEMA_OF.items())


def test_every_table_of_a_migration_is_named_beside_its_dsn() -> None:
    """A table that a component owns is found from its DSN name."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text().partition("<!-- dsn-table -->")[2]
    folder = ROOT / "fraud_daemons" / "postgres_runtime" / "migrations"
    service = {"checkpoints", "outbox", "dead_letters"}
    tables = {
        name
        for path in folder.glob("*/*.sql")
        for name in re.findall(r"^create table ([\w.]+)", path.read_text(), flags=re.M)
        if path.parent.name not in service
    }
    rows = [re.findall(r"`(\w+)`", line) for line in page.splitlines() if line.startswith("| `")]
    told = {f"{row[1]}.{table}" for row in rows for table in row[2:]}
    assert not tables - told


def test_every_exit_code_is_explained() -> None:
    """An operator finds each exit code in OPERATIONS.md."""
    page = (ROOT / "docs" / "OPERATIONS.md").read_text().partition("## Exit codes")[2]
    assert not [code for code in ExitCode if f"| {code.value} |" not in page]
