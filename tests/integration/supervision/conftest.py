"""A real supervisord over tiny workers, and the commands on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli import main as command_line
from fraud_daemons.cli.options import Invocation
from fraud_daemons.supervision.survivors import end_survivors
from tests.integration.supervision.tiny_platform import Platform, make_platform


@pytest.fixture
def platform(short_dir: Path) -> Iterator[Platform]:
    made = make_platform(short_dir)
    yield made
    made.down()
    end_survivors(short_dir)


@pytest.fixture
def commands(platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Any]:
    """Runs a command of the platform under test with --json and gives its answer."""
    monkeypatch.setattr(Invocation, "deployment", lambda _: platform.deployment)
    monkeypatch.setattr(Invocation, "load_profile", lambda _: platform.deployment.profile)
    monkeypatch.setattr("fraud_daemons.cli.up._provision", lambda _: None)
    monkeypatch.setattr("fraud_daemons.cli.up._brought", lambda _: {})  # its DSN and endpoint lead nowhere

    def answer(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert command_line.run([*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return answer
