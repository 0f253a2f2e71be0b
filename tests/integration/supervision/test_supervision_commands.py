"""What commands do and say on a real supervisord: rolling restarts, a supervisor that is frozen or gone, ports and files, the
substrate beneath the packs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli import main as command_line
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ConfigurationError, ExitCode
from fraud_daemons.observability.process_identity import frozen
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.client import SupervisorSilent
from fraud_daemons.supervision.survivors import find_survivors
from tests.integration.supervision.tiny_platform import OUTSIDE, Platform, until
from tests.line import ROOT


def test_a_rolling_restart_takes_one_worker_after_the_other(platform: Platform, commands: Callable[..., Any]) -> None:
    """The next worker of the pack is stopped only when the one before is ready again; other packs keep their pids."""
    platform.up()
    door = platform.pid("door")
    assert commands("restart", "core", "--rolling")["ready"]
    alpha, beta = platform.audit("alpha"), platform.audit("beta")
    assert [r["kind"] for r in alpha] == [r["kind"] for r in beta] == ["start", "stop", "restart"]
    assert platform.beat("alpha").since < beta[1]["at"]
    assert alpha[2]["at"] < beta[1]["at"]
    assert platform.pid("door") == door
    platform.tell("alpha", "crash")
    begun = len(platform.audit("beta"))
    assert not commands("restart", "core", "--rolling", code=ExitCode.NO)["ready"]
    assert len(platform.audit("beta")) == begun, "a rolling restart goes on over a worker that does not come back"


def test_a_restart_of_an_unknown_worker_is_a_clear_error(platform: Platform, capsys: Any, commands: Any) -> None:
    """It names what it was given and everything there is; nothing is touched."""
    platform.up()
    pids = [platform.pid(worker) for worker in ("alpha", "beta", "door")]
    assert command_line.run(["restart", "gamma"]) == ExitCode.USAGE
    assert "there is no pack or worker 'gamma'; known: core, ingress, alpha, beta, door" in capsys.readouterr().err
    assert [platform.pid(worker) for worker in ("alpha", "beta", "door")] == pids


def test_a_frozen_supervisor_does_not_hang_a_command(platform: Platform) -> None:
    """Against a stopped supervisord a call gives up by its own deadline, with exit code 4; down still cleans up."""
    platform.up()
    supervisor = platform.client.snapshot().pid
    os.kill(supervisor, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(SupervisorSilent) as caught:
        platform.client.snapshot()
    assert time.monotonic() - begun < 5.0
    assert caught.value.exit_code == ExitCode.UNKNOWN
    assert platform.down().ok
    assert find_survivors(platform.run_dir) == []


def test_status_tells_what_is_known_when_the_supervisor_is_frozen(
    platform: Platform, commands: Callable[..., Any], capsys: Any
) -> None:
    """Exit code 4 at once, not after a timeout: the supervisor's own beat and its age, who runs, who is dead and stays so;
    thawed it is well again, and the dead worker is back."""
    platform.up()
    assert commands("status")["supervisor"]["status"] == "running"
    assert commands("status")["supervisor"]["beat_age_seconds"] < 10.0
    supervisor, old = platform.client.snapshot().pid, platform.pid("alpha")
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(old, signal.SIGKILL)
    until(lambda: frozen(supervisor) and not platform.copies("alpha"))
    begun = time.monotonic()
    status = commands("status", code=ExitCode.UNKNOWN)
    assert time.monotonic() - begun < 2.0
    assert (status["supervisor"]["pid"], status["supervisor"]["status"]) == (supervisor, "frozen")
    assert status["verdict"] == "running failing"
    workers = {w["worker"]: (w["status"], w["reason"]) for pack in status["packs"] for w in pack["workers"]}
    assert workers["beta"] == ("running ready", None)
    assert workers["alpha"] == ("running failing", "dead, and nobody starts it again")
    assert command_line.run(["status"]) == ExitCode.UNKNOWN
    assert f"thaw it with: kill -CONT {supervisor}" in capsys.readouterr().out
    os.kill(supervisor, signal.SIGCONT)
    until(lambda: platform.pid("alpha") not in (None, old) and platform.worker("alpha").ready)
    assert commands("status")["supervisor"]["status"] == "running"


def test_status_tells_a_supervisor_that_was_killed_from_one_that_was_stopped(
    platform: Platform, commands: Callable[..., Any]
) -> None:
    """After SIGKILL it is gone, named as that; a process that outlives it makes the answer 4; after down it is stopped."""
    platform.tell("beta", "deaf")
    platform.up()
    os.kill(platform.client.snapshot().pid, signal.SIGKILL)
    until(lambda: not platform.copies("alpha"))
    status = commands("status", code=ExitCode.UNKNOWN)
    assert status["supervisor"]["status"] == "gone"
    workers = {w["worker"]: w["status"] for pack in status["packs"] for w in pack["workers"]}
    assert workers["alpha"] == "running failing"
    assert workers["beta"] == "running ready"
    os.kill(platform.copies("beta")[0], signal.SIGKILL)
    until(lambda: not platform.copies("beta"))
    assert commands("status", code=ExitCode.NOT_RUNNING)["supervisor"]["status"] == "gone"
    assert platform.down().ok
    assert commands("status", code=ExitCode.NOT_RUNNING)["supervisor"]["status"] == "stopped"


def test_warnings_as_errors_do_not_silence_the_supervisor(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONWARNINGS=error of the caller's environment does not reach supervisord or its children."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert platform.up().ready
    environment = Path(f"/proc/{platform.pid('alpha')}/environ").read_bytes().split(b"\0")
    assert not [entry for entry in environment if entry.startswith(b"PYTHONWARNINGS")]


def test_nothing_is_readable_by_others(platform: Platform) -> None:
    """Socket, configuration, logs and audit are private to their owner."""
    platform.up()
    for name in ("supervisor.sock", "supervisord.conf", "secrets.json", "events.ndjson", "logs/alpha.crash.log"):
        assert (platform.run_dir / name).stat().st_mode & 0o077 == 0, name


def test_a_port_in_use_is_named_with_its_holder(short_dir: Path) -> None:
    """A fixed port that somebody holds is refused before anything starts, naming the port, the setting and the process."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {**OUTSIDE, "PLATFORM_PROFILE_RUN_DIR": str(short_dir), "PLATFORM_GATE_PORT": str(port)}
        deployment = Platform(short_dir, load_profile("local_parity", root=ROOT, environment=environment)).deployment
        with pytest.raises(ConfigurationError, match=rf"gate\.port = {port}: in use by pid {os.getpid()}"):
            lifecycle.up(deployment)
    assert find_survivors(short_dir) == []


def test_the_commands_on_a_running_platform(platform: Platform, commands: Callable[..., Any], capsys: Any) -> None:
    """up, status, restart, events, logs and down answer operators in words and scripts in JSON."""
    assert commands("up")["ready"]
    assert commands("status")["verdict"] == "running ready"
    assert commands("restart", "alpha")["ready"]
    assert commands("stop", "ingress")["ready"]
    assert commands("status", code=ExitCode.NO)["verdict"] == "stopped"
    assert commands("status", "core")["verdict"] == "running ready"
    kinds = [record["kind"] for record in commands("events", "alpha")["events"]]
    assert kinds == ["start", "stop", "restart"]
    assert command_line.run(["logs", "alpha"]) == 0
    assert "alpha is at work" in capsys.readouterr().out
    platform.tell("door", "misconfigured")
    assert command_line.run(["start", "door"]) == ExitCode.NO
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: door is held")
    assert "door: setting x is wrong" in error
    assert error.endswith("platform resume door")
    assert commands("down")["down"]
    assert commands("status", code=ExitCode.NOT_RUNNING)["verdict"] == "stopped"


def test_status_answers_quickly(platform: Platform) -> None:
    """Drawing the picture of a running platform takes milliseconds; the rest of `platform status` is starting Python."""
    platform.up()
    begun = time.monotonic()
    lifecycle.status(platform.deployment)
    assert time.monotonic() - begun < 0.1


def test_the_substrate_is_supervised_and_keeps_its_data(short_dir: Path) -> None:
    """PostgreSQL and the object store come up beneath the packs, are respawned after SIGKILL, and go down with them."""
    environment = {"PLATFORM_PROFILE_RUN_DIR": str(short_dir), "PLATFORM_GATE_PORT": "0"}
    made = Platform(short_dir, load_profile("local_parity", root=ROOT, environment=environment))
    provisioned = []
    try:
        assert made.up(provision=provisioned.append).ready
        assert provisioned == [made.deployment.profile]
        for service in ("postgres", "objectstore"):
            old = made.pid(service)
            os.kill(old, signal.SIGKILL)
            until(lambda old=old, service=service: made.pid(service) not in (None, old))
        os.kill(made.client.snapshot().pid, signal.SIGKILL)
        assert made.up().ready
        assert [s.status for s in lifecycle.status(made.deployment).substrate] == ["running ready"] * 2
    finally:
        result = made.down()
    assert result.ok
    assert find_survivors(short_dir) == []
