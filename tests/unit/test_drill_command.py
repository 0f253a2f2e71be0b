"""`platform drill`: what it refuses, each in one line and with its exit code; nothing is broken by a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fraud_daemons.acceptance.drills.catalogue import DRILLS
from fraud_daemons.cli import main as command_line
from fraud_daemons.errors import ExitCode

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our packs and a profile of its own, never started."""
    shutil.copytree(ROOT / "packs", tmp_path / "packs")
    profiles = tmp_path / "config" / "profiles"
    profiles.mkdir(parents=True)
    profiles.joinpath("local_parity.toml").write_text(
        "[profile]\nrun_dir = '/tmp/fp-never-started'\ndrills = true\n[decision]\npolicy = 'baseline'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLATFORM_PROFILE", raising=False)
    return tmp_path


@pytest.mark.usefixtures("project")
def test_an_unknown_drill(capsys) -> None:
    """Exit 2, naming every drill there is."""
    assert command_line.run(["drill", "nonsense"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "there is no drill 'nonsense'" in said
    assert all(name in said for name in DRILLS)


@pytest.mark.usefixtures("project")
def test_a_drill_on_a_platform_that_is_down(capsys) -> None:
    """Exit 3, saying what to do."""
    assert command_line.run(["drill", "worker-kill"]) == ExitCode.NOT_RUNNING
    assert "run: platform up" in capsys.readouterr().err


def test_a_drill_on_a_profile_that_is_not_marked(project: Path, capsys) -> None:
    """Exit 78, naming the setting; before anything is looked at."""
    profile = project / "config" / "profiles" / "local_parity.toml"
    profile.write_text(profile.read_text().replace("drills = true", "drills = false"))
    assert command_line.run(["drill", "worker-kill"]) == ExitCode.CONFIGURATION
    assert "profile.drills" in capsys.readouterr().err


def test_a_drill_leaves_servers_alone_that_are_not_ours(project: Path, capsys, monkeypatch) -> None:
    """On an external PostgreSQL a drill that breaks the server says that it cannot run here: exit 4."""
    monkeypatch.setenv("PLATFORM_DSN", "host=db.internal dbname=x user=y")
    assert command_line.run(["drill", "postgres-kill"]) == ExitCode.UNKNOWN
    assert "cannot run here" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_the_list_has_every_drill_with_its_proofs(capsys) -> None:
    """No drill without a counter that proves its fault."""
    assert command_line.run(["drill", "list", "--json"]) == ExitCode.GOOD
    rows = json.loads(capsys.readouterr().out)["drills"]
    assert [row["drill"] for row in rows] == list(DRILLS)
    assert all(row["proofs"] and row["does"] for row in rows)
