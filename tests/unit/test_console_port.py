"""Where the console listens: beside the gate unless told otherwise, so that two platforms side by side do not clash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_daemons.config.ports import FILE_NAME, chosen_port, fixed_port
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, 8641),
        ({"PLATFORM_GATE_PORT": "9000"}, 9001),
        ({"PLATFORM_GATE_PORT": "0"}, 0),
        ({"PLATFORM_GATE_PORT": "65535"}, 0),
        ({"PLATFORM_GATE_PORT": "0", "PLATFORM_CONSOLE_PORT": "9100"}, 9100),
        ({"PLATFORM_CONSOLE_PORT": "0"}, 0),
    ],
)
def test_the_console_follows_the_gate(environment: dict[str, str], port: int) -> None:
    """The port after the gate's; chosen (0) where the gate's is chosen or leaves none; a port of its own counts first."""
    assert fixed_port(load_profile("local_parity", root=ROOT, environment=environment), "console_port") == port


def test_a_chosen_port_is_kept(tmp_path: Path) -> None:
    """Before `platform up` nobody knows a chosen port; afterwards it is the one in ports.json."""
    environment = {"PLATFORM_GATE_PORT": "0", "PLATFORM_PROFILE_RUN_DIR": str(tmp_path)}
    profile = load_profile("local_parity", root=ROOT, environment=environment)
    with pytest.raises(ConfigurationError, match="console_port"):
        chosen_port(profile, "console_port")
    (tmp_path / FILE_NAME).write_text(json.dumps({"console_port": 12345}))
    assert chosen_port(profile, "console_port") == 12345
