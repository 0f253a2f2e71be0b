"""up, down, start, stop, restart: the order in which things come and go, under written deadlines.

`up` twice is harmless and `down` is true only when no process of the run directory is left. One of these at a time per
run directory: each holds the same lock. Provisioning (database, roles, migrations, topics) is handed in by the caller.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraud_daemons.clock import Clock, SystemClock, iso
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.status.picture import HELD, PlatformPicture, WorkerPicture, reason_text
from fraud_daemons.supervision import overview, rendering
from fraud_daemons.supervision.audit import FILE_NAME, AuditFile
from fraud_daemons.supervision.client import (
    SupervisedProcess,
    SupervisorAbsent,
    SupervisorClient,
    SupervisorSilent,
)
from fraud_daemons.supervision.credentials import ensure_secrets
from fraud_daemons.supervision.deployment import Deployment
from fraud_daemons.supervision.substrate import service
from fraud_daemons.supervision.survivors import Survivor, end_survivors

UP_SECONDS_MAX = 90.0
DOWN_SECONDS_MAX = 60.0
LOCK_SECONDS_MAX = 120.0
ENGINE_START_SECONDS_MAX = 15.0
POLL_SECONDS = 0.05
LAST_LINES_MAX = 3
_FOLDERS = ("beats", "locks", "logs", "worlds", "runs")

Tell = Callable[[str], None]
_started: list[subprocess.Popen[bytes]] = []  # daemons we began; kept so that a zombie is reaped and no warning printed


@dataclass(frozen=True)
class Blocker:
    """A worker or service that did not become ready, and the last that is known of it."""

    name: str
    status: str
    reason: str | None
    last_lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} is {self.status}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class UpResult:
    """What `up`, `start` or `restart` achieved; `blocking` is empty when everything asked for is ready."""

    ready: bool
    already: bool
    elapsed_seconds: float
    blocking: tuple[Blocker, ...] = ()
    reaped: tuple[str, ...] = ()
    """Processes of an earlier supervisor that had to be ended first."""
    config_changed: bool = False
    """It was up already, with a configuration that is no longer that of profile and packs."""


@dataclass(frozen=True)
class DownResult:
    """What `down` left: nothing, unless `survivors` names it."""

    elapsed_seconds: float
    survivors: tuple[str, ...] = ()
    killed: tuple[str, ...] = field(default=())
    """Processes that did not leave with their supervisor and had to be ended."""

    @property
    def ok(self) -> bool:
        return not self.survivors


def up(
    deployment: Deployment,
    *,
    provision: Callable[[Any], object] | None = None,
    targets: Sequence[str] = (),
    wait: bool = True,
    timeout_seconds: float = UP_SECONDS_MAX,
    operator: str | None = None,
    tell: Tell = lambda _: None,
    clock: Clock | None = None,
) -> UpResult:
    """Bring up supervisord, the substrate and the packs, in order; harmless when already up.

    Raises ConfigurationError for what no waiting can heal, CommandError when the supervisor cannot be reached.
    """
    clock = clock or SystemClock()
    begun = clock.monotonic()
    workers = deployment.workers(targets)
    _make_folders(deployment.run_dir)
    with _one_at_a_time(deployment.run_dir, clock):
        client = SupervisorClient(deployment.profile.socket_path)
        reaped, already, changed = _ensure_engine(deployment, client, tell=tell, clock=clock)
        deadline = begun + timeout_seconds
        blocker = _start_substrate(deployment, client, operator=operator, tell=tell, deadline=deadline, clock=clock)
        if blocker:
            return UpResult(False, already, clock.monotonic() - begun, (blocker,), reaped, changed)
        if provision:
            tell("database: roles, migrations, topics")
            provision(deployment.profile)
        turn = _Turn(deployment, client, action="up", operator=operator, tell=tell, deadline=deadline, clock=clock)
        blocking = turn.start(workers, wait=wait)
    return UpResult(not blocking, already, clock.monotonic() - begun, tuple(blocking), reaped, changed)


def down(
    deployment: Deployment,
    *,
    timeout_seconds: float = DOWN_SECONDS_MAX,
    operator: str | None = None,
    tell: Tell = lambda _: None,
    clock: Clock | None = None,
) -> DownResult:
    """Drain ingress, then all other packs in parallel, then the substrate, then supervisord. Harmless when down."""
    clock = clock or SystemClock()
    begun = clock.monotonic()
    if not deployment.run_dir.is_dir():
        return DownResult(0.0)
    with _one_at_a_time(deployment.run_dir, clock):
        client = SupervisorClient(deployment.profile.socket_path)
        turn = _Turn(
            deployment,
            client,
            action="down",
            operator=operator,
            tell=tell,
            deadline=begun + timeout_seconds,
            clock=clock,
        )
        try:
            supervisor = client.snapshot().pid
            if deployment.packs:
                turn.stop(deployment.workers())
                turn.stop_together(deployment.services, words="stopping the substrate")
            client.shutdown()  # stops what is left, the substrate last
            _wait_until(lambda: not _alive(supervisor), turn.deadline, clock)
        except (SupervisorAbsent, SupervisorSilent) as error:
            tell(f"{error}; ending what is left")  # its children die with it: each asked the kernel for that
        leftover, survivors = end_survivors(deployment.run_dir)
        service.tidy(deployment)
    return DownResult(clock.monotonic() - begun, _names(survivors), _names(s for s in leftover if s not in survivors))


def start(deployment: Deployment, targets: Sequence[str], **options: Any) -> UpResult:
    """Start packs or workers and wait until they are ready. Raises SupervisorAbsent when the platform is down."""
    return _operate(deployment, targets, "start", lambda turn, workers: turn.start(workers), **options)


def resume(deployment: Deployment, targets: Sequence[str], **options: Any) -> UpResult:
    """Start those of `targets` that are held."""
    client = SupervisorClient(deployment.profile.socket_path)
    processes = client.snapshot().processes
    held = [w for w in deployment.workers(targets) if w in processes and processes[w].held]
    return _operate(deployment, held, "resume", lambda turn, workers: turn.start(workers) if held else [], **options)


def stop(deployment: Deployment, targets: Sequence[str], **options: Any) -> UpResult:
    """Drain and stop packs or workers; they stay stopped until `start` or `up`."""
    return _operate(deployment, targets, "stop", lambda turn, workers: turn.stop(workers), **options)


def restart(deployment: Deployment, targets: Sequence[str], *, rolling: bool = False, **options: Any) -> UpResult:
    """Drain, stop, start, wait until ready: all of `targets` together, or one worker after the other."""

    def together(turn: _Turn, workers: Sequence[str]) -> list[Blocker]:
        return turn.stop(workers) or turn.start(workers)

    def one_by_one(turn: _Turn, workers: Sequence[str]) -> list[Blocker]:
        for worker in workers:
            blocking = together(turn, [worker])
            if blocking:
                return blocking
        return []

    return _operate(deployment, targets, "restart", one_by_one if rolling else together, **options)


def _operate(
    deployment: Deployment,
    targets: Sequence[str],
    action: str,
    work: Callable[[_Turn, Sequence[str]], list[Blocker]],
    *,
    timeout_seconds: float = UP_SECONDS_MAX,
    operator: str | None = None,
    tell: Tell = lambda _: None,
    clock: Clock | None = None,
) -> UpResult:
    clock = clock or SystemClock()
    begun = clock.monotonic()
    workers = deployment.workers(targets)
    client = SupervisorClient(deployment.profile.socket_path)
    client.snapshot()  # says at once when the platform is down
    with _one_at_a_time(deployment.run_dir, clock):
        turn = _Turn(
            deployment,
            client,
            action=action,
            operator=operator,
            tell=tell,
            deadline=begun + timeout_seconds,
            clock=clock,
        )
        blocking = work(turn, workers)
    return UpResult(not blocking, True, clock.monotonic() - begun, tuple(blocking))


class _Turn:
    """One operator's action on a running supervisor, under one deadline."""

    def __init__(
        self,
        deployment: Deployment,
        client: SupervisorClient,
        *,
        action: str,
        operator: str | None,
        tell: Tell,
        deadline: float,
        clock: Clock,
    ) -> None:
        self._deployment = deployment
        self._client = client
        self._action = action
        self._operator = operator or operator_name()
        self._tell = tell
        self._clock = clock
        self.deadline = deadline

    def start(self, workers: Sequence[str], *, wait: bool = True) -> list[Blocker]:
        """Start in waves, each when the one before is ready. Returns who blocks."""
        for wave in self._deployment.levels(workers):
            processes = self._client.snapshot().processes
            if unknown := [w for w in wave if w not in processes]:
                message = f"the running supervisor does not know {', '.join(unknown)}: packs have changed since it was started"
                raise CommandError(f"{message}; run: platform down, then platform up")
            idle = [processes[w] for w in wave if not processes[w].runs and not self._stays_held(processes[w])]
            self._announce([process.name for process in idle])
            if idle:
                self._tell(f"starting {', '.join(process.name for process in idle)}")
            for process in idle:
                self._client.start(process)
            blocking = self._await_ready(wave) if wait else []
            if blocking:
                return blocking
        return []

    def stop(self, workers: Sequence[str]) -> list[Blocker]:
        """Stop in reverse order: ingress drains first, everything else at once. Returns who would not go."""
        for number, wave in enumerate(reversed(self._deployment.levels(workers))):
            words = f"draining {', '.join(wave)}" if number == 0 else f"draining {len(wave)} more"
            blocking = self.stop_together(wave, words=words)
            if blocking:
                return blocking
        return []

    def stop_together(self, names: Sequence[str], *, words: str) -> list[Blocker]:
        """Send every stop signal, then wait for all of them; supervisord kills who passes its own drain deadline."""
        processes = self._client.snapshot().processes
        named = [processes[name] for name in names if name in processes]
        self._announce([process.name for process in named])
        if any(process.runs for process in named):
            self._tell(words)
        for process in named:
            self._client.stop(process)
        gone = _wait_until(lambda: not self._running(names), self.deadline, self._clock)
        return (
            []
            if gone
            else [Blocker(name, "still running", "passed its drain deadline") for name in self._running(names)]
        )

    def _stays_held(self, process: SupervisedProcess) -> bool:
        return process.held and self._action in ("up", "start")

    def _running(self, names: Sequence[str]) -> list[str]:
        processes = self._client.snapshot().processes
        return [name for name in names if name in processes and processes[name].runs]

    def _announce(self, names: list[str]) -> None:
        if names:
            self._client.announce(self._action, operator=self._operator, names=names)

    def _await_ready(self, wave: Sequence[str]) -> list[Blocker]:
        def pending() -> list[WorkerPicture]:
            picture = overview.draw(self._deployment, self._client.snapshot(), clock=self._clock)
            return [worker for worker in picture.workers if worker.worker in wave and not worker.ready]

        # one that is held will not become ready by waiting
        _wait_until(lambda: all(w.status == HELD for w in pending()), self.deadline, self._clock)
        return [self._blocker(worker) for worker in pending()]

    def _blocker(self, worker: WorkerPicture) -> Blocker:
        log = self._deployment.crash_log(worker.worker)
        return Blocker(worker.worker, worker.status, reason_text(worker), last_lines(log))


def status(deployment: Deployment, *, clock: Clock | None = None) -> PlatformPicture:
    """The picture of a running platform. Raises SupervisorAbsent or SupervisorSilent."""
    snapshot = SupervisorClient(deployment.profile.socket_path).snapshot()
    return overview.draw(deployment, snapshot, clock=clock or SystemClock())


def operator_name() -> str:
    """Who gives the command, for the audit: login name and terminal or program."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = f"uid {os.getuid()}"
    return f"{user}, pid {os.getpid()}"


def last_lines(path: Path) -> tuple[str, ...]:
    """The last few lines of a log, () when there is none."""
    try:
        return tuple(line for line in path.read_text(errors="replace").splitlines()[-LAST_LINES_MAX:] if line.strip())
    except OSError:
        return ()


def _make_folders(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _FOLDERS:
        (run_dir / name).mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _one_at_a_time(run_dir: Path, clock: Clock) -> Iterator[None]:
    """Two commands that change things wait for each other."""
    path = run_dir / "operator.lock"
    with path.open("a+") as file:
        os.chmod(path, 0o600)  # noqa: PTH101 - the open file's mode whatever the umask was
        deadline = clock.monotonic() + LOCK_SECONDS_MAX

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not _wait_until(taken, deadline, clock):
            holder = path.read_text().strip() or "unknown"
            message = f"another platform command (pid {holder}) has been at work for {LOCK_SECONDS_MAX:g} s; wait for it or end it"
            raise CommandError(message, exit_code=ExitCode.UNKNOWN)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _ensure_engine(
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
            f"processes of an earlier run cannot be ended: {', '.join(_names(survivors))}; end them by hand"
        )
    if leftover:
        tell(f"ended what an earlier supervisor left: {', '.join(_names(leftover))}")
    _audit_loss(deployment, leftover, clock)
    for stale in ("supervisor.sock", "supervisord.pid"):
        (deployment.run_dir / stale).unlink(missing_ok=True)
    service.prepare(deployment, ensure_secrets(deployment.run_dir), tell=tell)
    path.write_text(_rendered(deployment))
    path.chmod(0o600)
    _start_engine(deployment, client, clock)
    return _names(leftover), False, False


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
        "worker": "supervisord",
        "pack": "engine",
        "kind": "exit",
        "cause": "lost",
        "pid": pid,
    }
    record = {**facts, "restarts": 0, "ended": list(_names(leftover))}
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

    if not _wait_until(answers, clock.monotonic() + ENGINE_START_SECONDS_MAX, clock):
        raise CommandError(
            f"supervisord did not answer in {ENGINE_START_SECONDS_MAX:g} s; its log is {log.parent / 'supervisord.log'}"
        )


def _start_substrate(
    deployment: Deployment, client: SupervisorClient, *, operator: str | None, tell: Tell, deadline: float, clock: Clock
) -> Blocker | None:
    processes = client.snapshot().processes
    idle = [processes[name] for name in deployment.services if not processes[name].runs]
    if idle:
        tell(f"starting {', '.join(process.name for process in idle)}")
        client.announce("up", operator=operator or operator_name(), names=[process.name for process in idle])
    for process in idle:
        client.start(process)
    for name in deployment.services:
        refusal: str | None = "not asked yet"

        def serves(name: str = name) -> bool:
            nonlocal refusal
            refusal = service.refusal(deployment, name)
            return refusal is None

        if not _wait_until(serves, deadline, clock):
            return Blocker(name, "not serving", refusal, last_lines(deployment.crash_log(name)))
        service.settle(deployment, name)
    return None


def _alive(pid: int) -> bool:
    for process in _started:
        process.poll()
    return Path(f"/proc/{pid}").exists()


def _names(survivors: Any) -> tuple[str, ...]:
    return tuple(str(survivor) for survivor in survivors)


def _wait_until(condition: Callable[[], bool], deadline: float, clock: Clock) -> bool:
    """Wait for a state, not for time; False when the deadline came first."""
    pause = threading.Event()
    while not condition():
        if clock.monotonic() > deadline:
            return False
        clock.wait(POLL_SECONDS, pause)
    return True
