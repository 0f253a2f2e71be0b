"""A real supervisord over a tiny pack of real worker processes: quick, single, clean, and every stop has its reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli import main as command_line
from fraud_daemons.cli.options import Invocation
from fraud_daemons.clock import parse_iso
from fraud_daemons.config.packs import Pack
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode
from fraud_daemons.observability.current_run import note_current_run
from fraud_daemons.observability.process_identity import frozen, start_ticks
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorSilent
from fraud_daemons.supervision.survivors import end_survivors, find_survivors
from tests.integration.tiny_platform import OUTSIDE, PACKS, ROOT, Platform, make_platform, until


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


def test_up_brings_every_worker_to_ready_in_order(platform: Platform) -> None:
    """The ingress pack starts only when the pack it waits for is ready; a worker is ready by its own heartbeat."""
    result = platform.up()
    assert result.ready
    assert not result.already
    picture = lifecycle.status(platform.deployment)
    assert picture.verdict == "running ready"
    started = {worker: platform.audit(worker)[0] for worker in ("alpha", "beta", "door")}
    ready = max((platform.run_dir / "beats" / f"{w}.json").stat().st_ctime_ns for w in ("alpha", "beta"))
    assert ready
    assert started["door"]["at"] > max(started["alpha"]["at"], started["beta"]["at"])


def test_up_twice_is_harmless(platform: Platform) -> None:
    """A second up changes no pid and says that it was up already."""
    platform.up()
    before = {worker: platform.pid(worker) for worker in ("alpha", "beta", "door")}
    again = platform.up()
    assert again.ready
    assert again.already
    assert {worker: platform.pid(worker) for worker in before} == before


def test_a_worker_added_while_running_is_named(platform: Platform) -> None:
    """up against a supervisor that was started with other packs says what is new and how to apply it."""
    platform.up()
    grown = replace(platform.deployment, packs=(*PACKS, Pack("more", "More", "", (), ("gamma",), 5.0)))
    with pytest.raises(CommandError, match=r"does not know gamma.*platform down, then platform up"):
        lifecycle.up(grown, operator="tester")
    assert platform.up().ready


def test_down_leaves_nothing(platform: Platform) -> None:
    """After down no process carries the run directory's mark, and a second down is harmless."""
    platform.up()
    assert find_survivors(platform.run_dir)
    result = platform.down()
    assert result.ok
    assert result.killed == ()
    assert find_survivors(platform.run_dir) == []
    assert platform.down().ok
    with pytest.raises(SupervisorAbsent):
        platform.client.snapshot()


def test_ingress_leaves_before_the_others(platform: Platform) -> None:
    """Down tells the ingress pack first, so nothing new comes in while the rest drains."""
    platform.up()
    platform.down()
    door, alpha = platform.audit("door")[-1], platform.audit("alpha")[-1]
    assert (door["kind"], alpha["kind"]) == ("stop", "stop")
    assert door["at"] < alpha["at"]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_worker_is_back_within_milliseconds(platform: Platform, kills: int) -> None:
    """Again and again SIGKILL of a healthy worker with children of its own: a new process at once, not on supervisord's next
    tick of 1 s, ready soon after; no orphan is left and never are there two copies."""
    platform.tell("alpha", "children")
    platform.up()
    spawned, ready, children = [], [], set()
    for _ in range(kills):
        until(lambda: (platform.run_dir / "alpha.children").exists())
        children |= {int(pid) for pid in (platform.run_dir / "alpha.children").read_text().split()}
        (platform.run_dir / "alpha.children").unlink()
        old = platform.pid("alpha")
        begun = time.monotonic()
        os.kill(old, signal.SIGKILL)
        until(lambda old=old: platform.pid("alpha") not in (None, old))
        spawned.append(time.monotonic() - begun)
        until(lambda: platform.worker("alpha").ready)
        ready.append(time.monotonic() - begun)
        platform.client.stop(platform.process("alpha"))  # an operator's stop forgives earlier deaths
        until(lambda: platform.pid("alpha") is None)
        (platform.run_dir / "alpha.children").unlink(missing_ok=True)
        platform.client.start(platform.process("alpha"))
        until(lambda: platform.worker("alpha").ready)
    spawned.sort()
    print(
        f"new process p50 {1000 * spawned[kills // 2]:.1f} ms, worst {1000 * spawned[-1]:.1f} ms; ready, worst {max(ready):.2f} s"
    )
    assert len(children) == 2 * kills
    assert [
        pid for pid in children if start_ticks(pid) is not None and pid not in _children_of(platform, "alpha")
    ] == []
    assert platform.doubles() == ""
    assert spawned[kills // 2] < 0.1, spawned
    assert max(ready) < 10.0


def _children_of(platform: Platform, worker: str) -> set[int]:
    pid = platform.pid(worker)
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_a_crash_leaves_no_grandchild(platform: Platform) -> None:
    """What a killed worker had started is ended with it, before its successor runs."""
    platform.tell("alpha", "children")
    platform.up()
    children = [int(line) for line in (platform.run_dir / "alpha.children").read_text().split()]
    assert all(start_ticks(pid) is not None for pid in children)
    old = platform.pid("alpha")
    os.kill(old, signal.SIGKILL)
    until(lambda: platform.pid("alpha") not in (None, old))
    assert all(start_ticks(pid) is None for pid in children)


def test_a_killed_supervisor_leaves_neither_orphans_nor_doubles(platform: Platform) -> None:
    """SIGKILL of supervisord, then up: exactly one copy of each worker, all ready."""
    platform.tell("alpha", "children")
    platform.up()
    old = {worker: platform.pid(worker) for worker in ("alpha", "beta", "door")}
    os.kill(platform.client.snapshot().pid, signal.SIGKILL)
    result = platform.up()
    assert result.ready
    assert platform.audit("supervisord")[-1]["cause"] == "lost"
    for worker, pid in old.items():
        assert platform.copies(worker) == [platform.pid(worker)]
        assert platform.pid(worker) != pid


def test_a_worker_that_ignores_its_supervisors_death_is_ended_by_up(platform: Platform) -> None:
    """A survivor that shrugs off the parent-death signal is found by its mark, named and ended before a new start."""
    platform.tell("beta", "deaf")
    platform.up()
    old = platform.pid("beta")
    os.kill(platform.client.snapshot().pid, signal.SIGKILL)
    result = platform.up()
    assert any(str(old) in name for name in result.reaped)
    assert platform.copies("beta") == [platform.pid("beta")]


def test_the_audit_tells_an_operators_restart_from_a_crash(platform: Platform) -> None:
    """Every start, stop and death is one record with its cause; an operator's carries the name, a crash its last lines."""
    platform.up()
    neighbours = {worker: platform.pid(worker) for worker in ("beta", "door")}
    lifecycle.restart(platform.deployment, ["alpha"], operator="ada")
    os.kill(platform.pid("alpha"), signal.SIGKILL)
    until(lambda: len(platform.audit("alpha")) == 5)
    records = platform.audit("alpha")
    assert [(r["kind"], r["cause"]) for r in records] == [
        ("start", "operator"), ("stop", "operator"), ("restart", "operator"), ("exit", "signal"), ("restart", "signal"),
    ]  # fmt: skip
    assert [r.get("operator") for r in records] == ["tester", "ada", "ada", None, None]
    assert records[1]["drain_seconds"] < records[1]["drain_seconds_max"]
    assert records[3]["signal"] == "SIGKILL"
    assert records[3]["last_log_lines"][-1] == "alpha is at work"
    assert records[4]["restarts"] == 1
    assert {worker: platform.pid(worker) for worker in neighbours} == neighbours


def test_a_configuration_fault_is_held_until_resume(platform: Platform) -> None:
    """Exit 78 is not looped: up names the worker and its last words at once, resume starts it again."""
    platform.tell("door", "misconfigured")
    result = platform.up()
    assert not result.ready
    (blocker,) = result.blocking
    assert (blocker.name, blocker.status) == ("door", "held")
    assert blocker.last_lines[-1] == "door: setting x is wrong"
    assert result.elapsed_seconds < 10.0
    assert lifecycle.status(platform.deployment).verdict == "held"
    assert [r["cause"] for r in platform.audit("door") if r["kind"] == "exit"] == ["configuration"]
    assert not platform.up().ready  # another up does not loop it either
    assert len([r for r in platform.audit("door") if r["kind"] == "exit"]) == 1
    platform.tell("door", "work")
    resumed = lifecycle.resume(platform.deployment, [], operator="ada")
    assert (resumed.ready, resumed.released) == (True, ("door",))
    assert platform.audit("door")[-1]["operator"] == "ada"
    pid = platform.pid("door")
    again = lifecycle.resume(platform.deployment, [], operator="ada")
    assert (again.ready, again.released) == (True, ())
    assert platform.pid("door") == pid, "a resume with nothing held touches nobody"


def test_an_immediately_dying_worker_does_not_spin(platform: Platform) -> None:
    """The first restart is immediate, the next ones wait longer and longer; stop ends the series."""
    platform.tell("alpha", "crash")
    platform.up(wait=False)
    until(lambda: len([r for r in platform.audit("alpha") if r["kind"] == "exit"]) >= 4)
    exits = [r for r in platform.audit("alpha") if r["kind"] == "exit"]
    delays = [r["respawn_seconds"] for r in exits[:4]]
    assert delays[0] == 0.0
    assert 0.1 <= delays[1] <= 0.3
    assert delays[3] > delays[1]
    assert (exits[0]["cause"], exits[0]["exit_code"]) == ("exit_code", 1)
    lifecycle.stop(platform.deployment, ["alpha"], operator="ada")
    count = len(platform.audit("alpha"))
    time.sleep(1.5)
    assert len(platform.audit("alpha")) == count
    assert platform.process("alpha").state == "stopped"


def test_up_gives_up_early_on_a_worker_that_keeps_dying(platform: Platform) -> None:
    """up does not wait out its deadline for a crash loop; it names the worker and its last words once, and so does the next up."""
    platform.tell("alpha", "crash")
    for _ in range(2):
        result = platform.up()
        assert not result.ready
        assert result.elapsed_seconds < 10.0
        (blocker,) = result.blocking
        assert (blocker.name, blocker.status) == ("alpha", "running failing")
        assert "exit 1" in str(blocker)
        assert "times in a row" in str(blocker)
        assert len(blocker.last_lines) == len(set(blocker.last_lines)) == 1
    platform.tell("alpha", "work")
    assert platform.up().ready


def test_the_status_names_the_run_that_began_last(platform: Platform) -> None:
    """The current run is what `platform run new` noted, whatever the workers last worked for."""
    platform.up()
    assert lifecycle.status(platform.deployment).platform_run_id is None
    note_current_run(platform.run_dir, "platform_20260210T091951Z")
    assert lifecycle.status(platform.deployment).platform_run_id == "platform_20260210T091951Z"


def test_a_deaf_worker_is_killed_at_its_drain_deadline(platform: Platform) -> None:
    """A worker that ignores SIGTERM is killed when its pack's drain deadline has passed, and the audit says so."""
    platform.tell("alpha", "deaf")
    platform.up()
    result = lifecycle.stop(platform.deployment, ["alpha"], operator="ada")
    assert result.ready
    record = platform.audit("alpha")[-1]
    assert (record["kind"], record["signal"]) == ("stop", "SIGKILL")
    assert record["drain_seconds"] >= record["drain_seconds_max"] == 5


def test_five_packs_drain_in_parallel_above_a_real_substrate(short_dir: Path) -> None:
    """Five packs whose workers take 2 s each to drain are gone after little more than 2 s, substrate and supervisor soon
    after; the ingress pack is told first."""
    names = ("one", "two", "three", "four")
    packs = (
        *(Pack(name, name, "", (), (f"{name}_a", f"{name}_b"), 8.0) for name in names),
        Pack("ingress", "Ingress", "", names, ("door",), 8.0),
    )
    environment = {"PLATFORM_PROFILE_RUN_DIR": str(short_dir), "PLATFORM_GATE_PORT": "0"}
    made = Platform(short_dir, load_profile("local_parity", root=ROOT, environment=environment), packs=packs)
    workers = [worker for pack in packs for worker in pack.workers]
    for worker in workers:
        made.tell(worker, "slow")
    try:
        assert made.up().ready
    finally:
        result = made.down()
    assert (result.ok, result.killed) == (True, ())
    print(f"packs {result.packs_seconds:.2f} s, all {result.elapsed_seconds:.2f} s")
    assert 2.0 <= result.packs_seconds < 3.5  # one after the other would be 18 s, in two waves 4 s
    assert result.elapsed_seconds < 10.0
    stops = {worker: made.audit(worker)[-1] for worker in workers}
    assert {record["kind"] for record in stops.values()} == {"stop"}
    told = {w: parse_iso(r["at"]) - timedelta(seconds=r["drain_seconds"]) for w, r in stops.items()}
    assert min(told, key=told.__getitem__) == "door"


def test_down_says_no_when_something_survives(
    platform: Platform, commands: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot be ended (here: whose signals do not arrive) is named and makes the exit code 1."""
    platform.up()
    mark = {"PLATFORM_RUN_DIR": str(platform.run_dir)}
    with subprocess.Popen(["/bin/sleep", "60"], env=mark, start_new_session=True) as survivor:
        with monkeypatch.context() as patched:
            patched.setattr("fraud_daemons.supervision.survivors.TERMINATE_SECONDS_MAX", 0.1)
            patched.setattr("fraud_daemons.supervision.survivors.KILL_SECONDS_MAX", 0.1)
            patched.setattr("fraud_daemons.supervision.survivors._signal_all", lambda *_: None)
            answer = commands("down", code=ExitCode.NO)
            assert command_line.run(["down"]) == ExitCode.NO
        assert answer["down"] is False
        assert answer["survivors"] == [f"pid {survivor.pid} (sleep)"]
        survivor.kill()


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
