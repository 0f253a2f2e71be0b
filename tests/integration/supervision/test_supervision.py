"""A real supervisord over a tiny pack of real worker processes: quick, single, clean, and every stop has its reason."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli import main as command_line
from fraud_daemons.clock import parse_iso
from fraud_daemons.config.packs import Pack
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.observability.current_run import note_current_run
from fraud_daemons.observability.process_identity import start_ticks
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.client import SupervisorAbsent
from fraud_daemons.supervision.survivors import find_survivors
from tests.integration.supervision.tiny_platform import PACKS, Platform, until
from tests.line import ROOT


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
