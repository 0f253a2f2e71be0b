"""supervisord itself: found, or started after whatever an earlier one left has been ended; then the substrate."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from fraud_daemons.clock import Clock, iso
from fraud_daemons.errors import CommandError
from fraud_daemons.supervision import rendering
from fraud_daemons.supervision.audit import FILE_NAME, AuditFile
from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorClient
from fraud_daemons.supervision.credentials import ensure_secrets
from fraud_daemons.supervision.deployment import ENGINE, SUPERVISOR, Deployment
from fraud_daemons.supervision.substrate import service
from fraud_daemons.supervision.survivors import Survivor, end_survivors
from fraud_daemons.supervision.turn import Blocker, last_lines
from fraud_daemons.supervision.waiting import Tell, operator_name, wait_until

ENGINE_START_SECONDS_MAX = 15.0
_FOLDERS = ("beats", "locks", "logs", "worlds", "runs")

Refusal = Callable[[], str | None]
"""Asks a service whether it does its job: None, or what it said."""

_started: list[subprocess.Popen[bytes]] = []  # daemons we began; kept so that a zombie is reaped and no warning printed


def make_folders(run_dir: Path) -> None:
    """The run directory and what every part expects in it, private to their owner."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if run_dir.stat().st_mode & 0o066:  # made by hand, or by `world make` before the first up
        run_dir.chmod(0o700)
    for name in _FOLDERS:
        (run_dir / name).mkdir(mode=0o700, exist_ok=True)


def ensure_engine(
    deployment: Deployment, client: SupervisorClient, *, tell: Tell, clock: Clock
) -> tuple[tuple[str, ...], bool, bool]:
    """A supervisord that answers. Returns (survivors that were ended, it was there already, its configuration is old)."""
    path = deployment.run_dir / "supervisord.conf"
    try:
        client.snapshot()
    except SupervisorAbsent:
        pass
    else:
        return (), True, path.read_text() != _rendered(deployment)
    leftover, survivors = end_survivors(deployment.run_dir)
    if survivors:
        raise CommandError(
            f"processes of an earlier run cannot be ended: {', '.join(named(survivors))}; end them by hand"
        )
    if leftover:
        tell(f"ended what an earlier supervisor left: {', '.join(named(leftover))}")
    _audit_loss(deployment, leftover, clock)
    for stale in ("supervisor.sock", "supervisord.pid"):
        (deployment.run_dir / stale).unlink(missing_ok=True)
    service.prepare(deployment, ensure_secrets(deployment.run_dir), tell=tell)
    path.write_text(_rendered(deployment))
    path.chmod(0o600)
    _start_engine(deployment, client, clock)
    return named(leftover), False, False


def _rendered(deployment: Deployment) -> str:
    return rendering.render(deployment)


def _audit_loss(deployment: Deployment, leftover: Sequence[Survivor], clock: Clock) -> None:
    """A supervisord that left its pid file behind was killed; it could not write that down itself."""
    try:
        pid = int((deployment.run_dir / "supervisord.pid").read_text())
    except (OSError, ValueError):
        return
    facts = {
        "at": iso(clock.now()),
        "worker": SUPERVISOR,
        "pack": ENGINE,
        "kind": "exit",
        "cause": "lost",
        "pid": pid,
    }
    record = {**facts, "restarts": 0, "ended": list(named(leftover))}
    AuditFile(deployment.run_dir / FILE_NAME, complain=lambda _: None).append(record)


def _start_engine(deployment: Deployment, client: SupervisorClient, clock: Clock) -> None:
    log = deployment.run_dir / "logs" / "supervisord.out.log"
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(deployment.run_dir / "supervisord.conf")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=rendering.child_environment(deployment, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
        )
    _started.append(process)

    def answers() -> bool:
        if process.poll() is not None:
            said = " ".join(last_lines(log)) or "nothing"
            raise CommandError(f"supervisord left with {process.returncode} at start; it said: {said}")
        try:
            client.snapshot()
        except SupervisorAbsent:
            return False
        return True

    if not wait_until(answers, clock.monotonic() + ENGINE_START_SECONDS_MAX, clock):
        raise CommandError(
            f"supervisord did not answer in {ENGINE_START_SECONDS_MAX:g} s; its log is {log.parent / 'supervisord.log'}"
        )


def await_outside(outside: Mapping[str, Refusal], *, tell: Tell, deadline: float, clock: Clock) -> Blocker | None:
    """Wait until every part of the substrate that is not ours does its job; the one that does not, or None.

    Raises what a refusal raises: ConfigurationError when no waiting can help.
    """
    for name, refusal in outside.items():
        said = refusal()
        if said is None:
            continue
        tell(f"waiting for {name}: {said}")

        def serves(refusal: Refusal = refusal) -> bool:
            nonlocal said
            said = refusal()
            return said is None

        if not wait_until(serves, deadline, clock):
            return Blocker(name, "not serving", said)
    return None


def start_substrate(
    deployment: Deployment,
    client: SupervisorClient,
    *,
    names: Sequence[str] | None = None,
    action: str = "up",
    operator: str | None,
    tell: Tell,
    deadline: float,
    clock: Clock,
) -> Blocker | None:
    """Start the embedded services (or only `names`) and wait until each does its job; the one that does not, or None."""
    processes = client.snapshot().processes
    wanted = deployment.services if names is None else names
    idle = [processes[name] for name in wanted if not processes[name].runs]
    if idle:
        tell(f"starting {', '.join(process.name for process in idle)}")
        client.announce(action, operator=operator or operator_name(), names=[process.name for process in idle])
    for process in idle:
        client.start(process)
    for name in wanted:
        refusal: str | None = "not asked yet"

        def serves(name: str = name) -> bool:
            nonlocal refusal
            refusal = service.refusal(deployment, name)
            return refusal is None or _for_good(refusal)

        wait_until(serves, deadline, clock)
        if refusal is not None:
            return Blocker(name, "not serving", refusal, last_lines(deployment.crash_log(name)))
        service.settle(deployment, name)
    return None


def _for_good(refusal: str) -> bool:
    """Whether a service of our own refuses what it was started with: somebody changed secrets.json or the data."""
    return any(words in refusal for words in ("password authentication failed", "SignatureDoesNotMatch"))


def alive(pid: int) -> bool:
    """Whether a process is still there; reaps it when it was ours."""
    for process in _started:
        process.poll()
    return Path(f"/proc/{pid}").exists()


def named(survivors: Iterable[Survivor]) -> tuple[str, ...]:
    """Survivors in the words of `Survivor.__str__`."""
    return tuple(str(survivor) for survivor in survivors)
