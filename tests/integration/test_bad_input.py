"""Wrong settings, files, ports and credentials before anything runs: each has a clear answer, from the command that meets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fraud_daemons.cli import main as command_line
from fraud_daemons.errors import ExitCode
from fraud_daemons.supervision.survivors import find_survivors
from tests.system.platform_under_test import ROOT


@pytest.fixture
def project(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository's packs and profile whose run directory is private to the test."""
    for folder in ("packs", "config"):
        shutil.copytree(ROOT / folder, short_dir / folder)
    for name in [name for name in os.environ if name.startswith(("PLATFORM", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PLATFORM_GATE_PORT", "0")
    monkeypatch.chdir(short_dir)
    return short_dir


def _refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = ExitCode.CONFIGURATION) -> str:
    """What `platform WORDS…` says on stderr when it leaves with `code`; never a traceback."""
    capsys.readouterr()
    assert command_line.run(list(words)) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "a bug in the platform" not in said.err
    return said.err


def _checks(capsys: pytest.CaptureFixture[str], *, code: int) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert command_line.run(["check", "--json"]) == code
    return {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


@pytest.mark.parametrize("command", ["check", "up", "status"])
def test_a_profile_with_five_mistakes(project: Path, capsys, command: str) -> None:
    """All five are reported together, each with its setting and what would be right; nothing is started."""
    text = (
        "[gate]\nthreads = 99\n[bus]\npartitions = 'many'\n[decision]\ncurrency = 'usd'\n[nonsense]\na = 1\n"
        "[database.dsns]\nDF_REPLAY_DSN = 'host=elsewhere'\n"
    )
    (project / "config/profiles/local_parity.toml").write_text(text)
    said = _refused(capsys, command)
    assert "5 problems" in said
    for words in ("gate.threads = 99: must be between 1 and 32", "bus.partitions = 'many': must be a whole number",
                  "decision.currency = 'usd'", "nonsense.a: no such setting", "DF_* commit together"):  # fmt: skip
        assert words in said
    assert not (project / ".run").exists()


@pytest.mark.parametrize("command", ["check", "up", "status"])
def test_a_watchdog_less_patient_than_status(project: Path, capsys, command: str) -> None:
    """A beat may be old for longer than the watchdog waits: refused, with both timers, their values and what would follow."""
    (project / "config/profiles/local_parity.toml").write_text("[loop]\nbeat_age_seconds_max = 30\n")
    said = _refused(capsys, command)
    assert (
        "timers out of order: loop.beat_age_seconds_max (30) must be below loop.watchdog_seconds (30), or a worker is killed"
        in said
    )
    assert said.count("timers out of order") == 1
    assert not (project / ".run").exists()


def test_a_profile_and_a_pack_at_once(project: Path, capsys) -> None:
    """check names the mistakes of the profile and of the pack files in one answer."""
    (project / "config/profiles/local_parity.toml").write_text("[gate]\nthreads = 99\n")
    (project / "packs/odd.toml").write_text("workers = ['ghost']\n")
    said = _refused(capsys, "check")
    assert "gate.threads" in said
    assert "ghost" in said


@pytest.mark.parametrize("command", ["check", "up", "status"])
def test_a_pack_naming_a_worker_that_does_not_exist(project: Path, capsys, command: str) -> None:
    """The pack, the worker and the file it would be are named; exit code 78."""
    (project / "packs/obs_gov.toml").write_text("workers = ['run_reporter', 'ghost']\n")
    said = _refused(capsys, command)
    assert "packs/obs_gov.toml: there is no worker 'ghost'" in said
    assert "fraud_daemons/workers/obs_gov/ghost.py" in said


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_run_directory_too_long_for_a_socket(project: Path, capsys, command: str, monkeypatch) -> None:
    """The path, its length, what fits and the setting to change are named before anything is made."""
    folder = project / ("x" * 90)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(folder))
    said = _refused(capsys, command)
    assert re.search(r"socket path \S+ has \d+ bytes, 95 fit", said)
    assert "PLATFORM_PROFILE_RUN_DIR" in said
    assert not folder.exists()


def test_a_port_in_use(project: Path, capsys, monkeypatch) -> None:
    """check and up name the port, its setting and the process that holds it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("PLATFORM_GATE_PORT", str(port))
        wanted = f"gate.port = {port}: in use by pid {os.getpid()}"
        assert wanted in _refused(capsys, "up")
        problems = [check["problem"] for check in _checks(capsys, code=ExitCode.NO).values() if check["problem"]]
        assert len(problems) == 1
        assert wanted in problems[0]
    assert find_survivors(project / ".run/local_parity") == []


def test_a_cluster_of_another_major_version(project: Path, capsys) -> None:
    """up and check refuse it with the way out, and leave the data alone."""
    data = project / ".run/local_parity/postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    said = _refused(capsys, "up")
    assert "was made by PostgreSQL 16, this platform runs 18" in said
    assert "pg_dumpall" in said
    checks = _checks(capsys, code=ExitCode.NO)
    assert "pg_dumpall" in checks["substrate"]["problem"]
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_secrets_readable_by_others(project: Path, capsys) -> None:
    """A secrets file that others may read is refused by up and named by check, with the command that mends it."""
    path = project / ".run/local_parity/secrets.json"
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text("{}")
    path.chmod(0o644)
    assert f"{path} is readable by others; run: chmod 600 {path}" in _refused(capsys, "up")
    assert "readable by others" in _checks(capsys, code=ExitCode.NO)["secrets"]["problem"]


@pytest.mark.parametrize("words", [["start"], ["stop", "obs_gov"], ["restart", "run_reporter"], ["resume", "--all"]])
def test_not_running(project: Path, capsys, words: list[str]) -> None:
    """Commands that need a running platform say in one line that it is not, and how to start it: exit code 3."""
    said = _refused(capsys, *words, code=ExitCode.NOT_RUNNING)
    assert said.strip().endswith("run: platform up")
    assert said.count("\n") == 1


def test_check_of_a_platform_that_is_down(project: Path, capsys) -> None:
    """What needs a running substrate is said to be not checked, and the answer is still good."""
    checks = _checks(capsys, code=ExitCode.GOOD)
    skipped = {what for what, check in checks.items() if check["not_checked"] == "substrate is down"}
    assert {"migrations", "topics"} < skipped
    assert all(checks[what]["ok"] is None for what in skipped)


def test_dsns_that_lead_elsewhere_or_nowhere(project: Path, capsys, monkeypatch) -> None:
    """A bus that leaves the admissions behind is refused with the reason, a malformed DSN without quoting it; both at once."""
    monkeypatch.setenv("EVENT_BUS_DSN", "postgresql://user:hush@127.0.0.1:1/bus")
    monkeypatch.setenv("DLA_INDEX_DSN", "hush@@ this is no dsn")
    checks = _checks(capsys, code=ExitCode.NO)
    assert "admits and appends in one commit" in checks["EVENT_BUS_DSN"]["problem"]
    assert "not a libpq connection string" in checks["DLA_INDEX_DSN"]["problem"]
    assert "hush" not in json.dumps(checks)


def test_a_pool_budget_that_does_not_fit(project: Path, capsys, monkeypatch) -> None:
    """The sum of all connections and the reserve is compared with what the server allows, with the setting to change."""
    monkeypatch.setenv("PLATFORM_DATABASE_CONNECTIONS_MAX", "20")
    (problem,) = [c["problem"] for c in _checks(capsys, code=ExitCode.NO).values() if c["problem"]]
    assert "database.connections_max above" in problem


def test_up_refuses_a_pool_budget_that_does_not_fit(project: Path, capsys, monkeypatch) -> None:
    """Before anything starts, with the sum and the setting to change; no supervisor, no database, no folder of either."""
    monkeypatch.setenv("PLATFORM_DATABASE_CONNECTIONS_MAX", "20")
    said = _refused(capsys, "up")
    assert "16 workers x 2 + 4 gate threads x 1 + 4 commands + reserve 8 = 48 of 20" in said
    assert "set database.connections_max above 48, or fewer gate.threads" in said
    assert not (project / ".run" / "local_parity").exists()


def test_up_refuses_a_server_of_ones_own_that_has_too_few_connections(
    project: Path, capsys, monkeypatch, database: str
) -> None:
    """An external server is asked what it leaves for this database, and refused by name with the sum."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("alter database {} connection limit 30").format(sql.Identifier(owner.info.dbname)))
    monkeypatch.setenv("PLATFORM_DSN", database)
    said = _refused(capsys, "up")
    assert "= 48 of 30; set max_connections of the server at PLATFORM_DSN above 48" in said
    checks = _checks(capsys, code=ExitCode.NO)
    (problem,) = [c["problem"] for name, c in checks.items() if name.startswith("connections at PLATFORM_DSN")]
    assert "above 48" in problem
    assert find_survivors(project / ".run" / "local_parity") == []


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("host=127.0.0.1 port=1 user=u password=hush dbname=d", "postgres: refused"),
        ("{server} dbname=postgres user=fp_owner password=hush", "postgres: 28P01"),
        ("{server} dbname=nowhere user=fp_owner password={password}", "postgres: 3D000"),
        ("{server} dbname=postgres user=full password={password}", "postgres: 53300"),
    ],
)
def test_a_dsn_that_cannot_be_used(project: Path, capsys, monkeypatch, postgres_server, dsn: str, reason: str) -> None:
    """check tells refused, wrong password, missing database and too many connections apart, and shows no password."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute("drop role if exists full")
        connection.execute(f"create role full login connection limit 0 password '{postgres_server.password}'")
    given = dsn.format(server=f"host={postgres_server.directory}/pg port=5432", password=postgres_server.password)
    monkeypatch.setenv("PLATFORM_DSN", given)
    checks = _checks(capsys, code=ExitCode.NO)
    assert checks["PLATFORM_DSN"]["problem"].startswith(reason)
    assert "hush" not in json.dumps(checks)
    assert postgres_server.password not in json.dumps(checks)
