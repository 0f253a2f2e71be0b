"""House rules that matter are tests: each names what is banned and what to write instead."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fraud_daemons"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
LINES_MAX = 400

# call -> (what to write instead, the files that may)
BANNED_CALLS = {
    "psycopg.connect": (
        "postgres_runtime.postgres_threadlocal_connection",
        {"postgres_runtime/provisioning.py"},
    ),
    "DeadlineConnection.connect": (
        "postgres_runtime.postgres_threadlocal_connection",
        # the second is the policy of the incident, which one drill puts back; who may choose it is held below
        {"postgres_runtime/connecting.py", "postgres_runtime/connection_per_operation.py"},
    ),
    "connect_start": ("postgres_runtime.postgres_threadlocal_connection", {"postgres_runtime/diagnosis.py"}),
    "time.time": ("the injected Clock", {"clock.py"}),
    "datetime.now": ("the injected Clock", {"clock.py"}),
    "datetime.utcnow": ("the injected Clock", {"clock.py"}),
    "uuid.uuid4": ("domain.identity.derived_id", set()),
    "os.system": ("subprocess.run with an argument list", set()),
}
ENVIRONMENT_READERS = {"bootstrap", "cli", "supervision", "acceptance"}
NO_COMMON_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

# PostgreSQL keywords that are not free as a column name (pg_get_keywords: reserved, type-or-function, column-name)
# and that somebody might want for one; written in double quotes wherever they are used.
QUOTED_IDENTIFIERS = {
    "all", "analyze", "and", "any", "array", "as", "asc", "authorization", "between", "bigint", "bit", "boolean", "both",
    "case", "cast", "check", "collate", "column", "constraint", "create", "cross", "current_date", "current_time",
    "current_timestamp", "current_user", "default", "desc", "distinct", "do", "else", "end", "except", "exists",
    "extract", "false", "fetch", "for", "foreign", "freeze", "from", "full", "grant", "group", "grouping", "having",
    "in", "initially", "inner", "intersect", "interval", "into", "is", "join", "json", "leading", "left", "like",
    "limit", "localtime", "natural", "none", "not", "null", "offset", "on", "only", "or", "order", "outer", "overlaps",
    "overlay", "placing", "position", "precision", "primary", "references", "returning", "right", "row", "select",
    "similar", "some", "symmetric", "table", "then", "time", "timestamp", "to", "trailing", "true", "union", "unique",
    "user", "using", "values", "verbose", "when", "where", "window", "with", "partition",
}  # fmt: skip


def _relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_no_banned_call(path: Path) -> None:
    """What has one right place is called nowhere else."""
    tree = ast.parse(path.read_text())
    found = []
    for name, line in _calls(tree):
        for banned, (instead, allowed) in BANNED_CALLS.items():
            if (name == banned or name.endswith(f".{banned}")) and _relative(path) not in allowed:
                found.append(f"{_relative(path)}:{line}: {banned}() - write {instead}")
    assert not found, "\n".join(found)


def test_only_bootstrap_can_choose_the_policy_of_the_incident() -> None:
    """A connection per operation is imported in one place, which the drill's settings guard."""
    found = {_relative(path) for path in SOURCES if re.search(r"import.*connection_per_operation", path.read_text())}
    assert found == {"bootstrap/incident.py"}


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_the_only_endless_loop_is_in_the_runtime(path: Path) -> None:
    """`while True` hides where a worker can hang: loops have a condition, and the runtime has the worker's loop."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
            pytest.fail(
                f"{_relative(path)}:{node.lineno}: an endless loop; state the condition, or let runtime.Loop turn it"
            )


def test_only_the_edges_read_the_environment() -> None:
    """Nothing below bootstrap reads the environment: a setting has one way in."""
    found = [
        _relative(path)
        for path in SOURCES
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text())
        and _relative(path).split("/")[0] not in ENVIRONMENT_READERS
    ]
    assert not found, f"{found}: take it from the Profile"


def test_no_module_shadows_the_standard_library_or_says_nothing() -> None:
    """No file or folder is called like a standard library module, and none is called utils."""
    names = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}
    names |= {path.name for path in ROOT.iterdir() if path.is_dir()}
    names -= {"__init__", "__main__"}
    assert not names & set(sys.stdlib_module_names), "rename: the standard library has this name"
    assert not names & NO_COMMON_NAMES, "name the role instead"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.sql")), ids=_relative)
def test_reserved_identifiers_are_quoted_in_table_definitions(path: Path) -> None:
    """A column named like an SQL keyword is quoted where it is defined: one day a keyword becomes reserved."""
    text = re.sub(r"--.*", "", path.read_text())
    for body in re.findall(r"create table [\w.\"]+ \((.*?)\n\)", text, flags=re.S):
        for line in body.splitlines():
            first = line.strip().split(" ", 1)[0].lower()
            if first in QUOTED_IDENTIFIERS and not re.match(
                r"\s*(primary key|unique|check|foreign key|constraint)\b", line
            ):
                pytest.fail(f"{_relative(path)}: column {first} must be written in double quotes")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.sql")), ids=_relative)
def test_partition_and_position_are_quoted_everywhere(path: Path) -> None:
    """The bus's own columns are keywords; unquoted they parse today and mislead tomorrow."""
    text = re.sub(r"--.*|'[^']*'|\"[^\"]*\"|%\(\w+\)s", "", path.read_text().lower())
    assert not re.search(r"(?<!over \()(?<!\()\bpartition\b(?! by)", text), 'write "partition"'
    assert not re.search(r"\bposition\b(?!\s*\()", text), 'write "position"'


def test_every_file_stays_readable() -> None:
    """A Python file over 400 lines wants a seam."""
    long = {_relative(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > LINES_MAX}
    assert not long, f"split: {long}"


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_test_states_its_fact(path: Path) -> None:
    """A test's docstring is the fact it proves."""
    tree = ast.parse(path.read_text())
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not silent, f"no docstring: {silent}"


def test_every_module_says_what_it_is_for() -> None:
    """A module opens with a docstring."""
    silent = [_relative(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_log_events_come_from_the_catalogue() -> None:
    """No log line has a name of its own: dashboards and the recurrence scan read names."""
    found = [
        f"{_relative(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("debug", "info", "warning", "error", "exception")
        and ast.unparse(node.func.value).endswith("log")
        and node.args
        and not ast.unparse(node.args[0]).startswith("events.")
    ]
    assert not found, f"use a name of observability/events.py: {found}"


def test_every_dependency_has_its_reason() -> None:
    """Each dependency in pyproject.toml says why it is there, on its line."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    silent = [line for line in lines if re.match(r'\s+"[a-z][\w\-\[\],]*(>=|==)', line) and "#" not in line]
    assert not silent


def test_the_lock_file_holds_every_dependency() -> None:
    """requirements.lock pins, with hashes, everything pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    lock = (ROOT / "requirements.lock").read_text().lower()
    names = [re.split(r"[\[<>=]", dependency, maxsplit=1)[0].lower() for dependency in named]
    missing = [name for name in names if not re.search(rf"^{re.escape(name)}==", lock, flags=re.M)]
    assert not missing, f"run make lock: {missing}"
    assert "--hash=sha256:" in lock


def test_no_path_of_one_machine_and_no_secret_is_tracked() -> None:
    """Nothing in the repository names a developer's machine."""
    suspicious = re.compile(r"/(work|root|home)/\w|BEGIN [A-Z ]*PRIVATE KEY")
    files = [
        p
        for folder in ("fraud_daemons", "tests", "docs", "packs", "config", "scripts")
        for p in (ROOT / folder).rglob("*")
    ]
    found = [
        p.relative_to(ROOT).as_posix()
        for p in files
        if p.is_file()
        and p.suffix in (".py", ".md", ".toml", ".sql", ".json", ".sh", "")
        and "__pycache__" not in p.parts
        and suspicious.search(p.read_text(errors="replace"))
    ]
    assert not found


def test_every_worker_has_a_line_in_the_run_report() -> None:
    """A worker without an equation would be a worker that may lose records unseen."""
    from fraud_daemons.bootstrap import load_worker
    from fraud_daemons.config.packs import load_packs
    from fraud_daemons.workers.obs_gov import _equations

    known = {line.name for line in _equations.LINES}
    for pack in load_packs(ROOT):
        for name in pack.workers:
            worker = load_worker(pack.name, name)
            if worker.observes:
                does = (*worker.consumes, *worker.publishes, *worker.equations)
                assert not does, f"{name}: does more than observe"
                tables = (PACKAGE / "postgres_runtime" / "migrations").glob(f"{worker.schema}/*.sql")
                assert not [t for t in tables if "platform_run_id" in t.read_text()], f"{name}: keeps records of a run"
                continue
            assert worker.equations, f"{name}: WORKER.equations names no line of the run report"
            assert set(worker.equations) <= known, f"{name}: {set(worker.equations) - known} are no lines of the report"
