"""The command line: one line per error, stable exit codes, JSON alone on stdout, quick starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fraud_daemons.cli import main as command_line
from fraud_daemons.cli.main import COMMANDS, platform
from fraud_daemons.errors import CommandError, ExitCode, TransientFault

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without packs, outside the repository."""
    (tmp_path / "packs").mkdir()
    profiles = tmp_path / "config" / "profiles"
    profiles.mkdir(parents=True)
    profiles.joinpath("local_parity.toml").write_text("[profile]\nrun_dir = '/tmp/fp-never-started'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLATFORM_PROFILE", raising=False)
    return tmp_path


@pytest.mark.usefixtures("project")
def test_status_of_a_platform_that_is_down(capsys) -> None:
    """Exit code 3, and the JSON says stopped; nothing is created."""
    assert command_line.run(["status", "--json"]) == ExitCode.NOT_RUNNING
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "stopped"
    assert not Path("/tmp/fp-never-started").exists()  # noqa: S108 - a path that must not come to be


@pytest.mark.usefixtures("project")
def test_operations_on_a_platform_that_is_down(capsys) -> None:
    """start, stop and restart say in one line that it is not running and what to do, exit code 3."""
    for command in ("start", "stop", "restart"):
        assert command_line.run([command]) == ExitCode.NOT_RUNNING
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: the platform is not running")
        assert error.endswith("run: platform up")
        assert "\n" not in error


@pytest.mark.usefixtures("project")
def test_down_is_harmless_when_down(capsys) -> None:
    """down of what never ran is good."""
    assert command_line.run(["down"]) == ExitCode.GOOD


def test_options_before_or_after_the_command(project: Path, capsys, monkeypatch) -> None:
    """--json, --profile and --root mean the same before and after the command's name, from any folder."""
    monkeypatch.chdir("/")
    for arguments in (["--root", str(project), "--json", "status"], ["status", "--root", str(project), "--json"]):
        assert command_line.run(arguments) == ExitCode.NOT_RUNNING
        assert json.loads(capsys.readouterr().out)["profile"] == "local_parity"


def test_all_mistakes_of_a_profile_at_once(project: Path, capsys) -> None:
    """Five mistakes are five lines, exit code 78, and with --json one object."""
    text = "[gate]\nport = 'x'\nthreads = 99\n[nonsense]\na = 1\n[decision]\ncurrency = 'usd'\n[logs]\nlevel = 'loud'\n"
    (project / "config" / "profiles" / "bad.toml").write_text(text)
    assert command_line.run(["status", "--profile", "bad", "--json"]) == ExitCode.CONFIGURATION
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 78
    for setting in ("gate.port", "gate.threads", "nonsense.a", "decision.currency", "logs.level"):
        assert setting in answer["error"]


def test_outside_a_project(tmp_path: Path, monkeypatch, capsys) -> None:
    """In a folder that is no project the error is one line that says where to go."""
    monkeypatch.chdir(tmp_path)
    assert command_line.run(["status"]) == ExitCode.CONFIGURATION
    error = capsys.readouterr().err.strip()
    assert "--root" in error
    assert "\n" not in error


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("arguments", [["nonsense"], ["status", "--nonsense"], ["status", "no_such_pack"], ["resume"]])
def test_usage_errors(arguments: list[str], capsys) -> None:
    """A wrong command, option or name is exit code 2 and one line."""
    assert command_line.run(arguments) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_pack_that_names_no_worker(project: Path, capsys) -> None:
    """A pack file that names a worker without a file is refused, naming the file it would be."""
    (project / "packs" / "odd.toml").write_text("workers = ['ghost']\n")
    assert command_line.run(["check"]) == ExitCode.CONFIGURATION
    assert "fraud_daemons/workers/odd/ghost.py" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_check_lists_what_it_looked_at(capsys, monkeypatch) -> None:
    """check names each subject and its verdict, and changes nothing."""
    monkeypatch.setenv("PLATFORM_GATE_PORT", "0")  # a platform may be running beside this test
    assert command_line.run(["check", "--json"]) == ExitCode.GOOD
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert any(check["check"].startswith("PostgreSQL 18") for check in document["checks"])


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (CommandError("no such case", exit_code=ExitCode.NO), ExitCode.NO, "no such case"),
        (TransientFault("postgres: refused"), ExitCode.UNKNOWN, "postgres: refused"),
        (KeyError("x"), ExitCode.BUG, "a bug in the platform: KeyError"),
    ],
)
def test_what_a_command_raises(raised: Exception, code: ExitCode, words: str, capsys, monkeypatch) -> None:
    """Each kind of fault has its exit code, and its message is one line on stderr."""

    def fail() -> None:
        raise raised

    monkeypatch.setitem(platform.commands, "failing", click.Command("failing", callback=fail))
    monkeypatch.setattr(type(platform), "get_command", lambda self, _context, name: self.commands[name])
    assert command_line.run(["failing"]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_command_that_is_not_built_yet_says_so(capsys, monkeypatch) -> None:
    """A name of the help without a file is refused with the file's name instead of a traceback."""
    monkeypatch.setitem(COMMANDS, "imaginary", "Not there.")
    assert command_line.run(["imaginary", "list", "--all"]) == ExitCode.USAGE
    assert "fraud_daemons/cli/imaginary.py" in capsys.readouterr().err


def test_status_starts_without_heavy_parts() -> None:
    """`platform status` loads no driver, no store client and no logging framework."""
    code = "import sys, fraud_daemons.cli.status; print([m for m in ('psycopg', 'boto3', 'structlog', 'supervisor', 'orjson') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(capsys) -> None:
    """The help lists every command without loading any."""
    assert command_line.run(["--help"]) == ExitCode.GOOD
    shown = capsys.readouterr().out
    assert all(f"  {name}" in shown for name in COMMANDS)
