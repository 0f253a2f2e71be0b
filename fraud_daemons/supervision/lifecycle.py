"""up, down, start, stop, restart: the order in which things come and go, under written deadlines.

`up` twice is harmless and `down` is true only when no process of the run directory is left. One of these at a time per
run directory: each holds the same lock. Provisioning (database, roles, migrations, topics) is handed in by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.status.picture import PlatformPicture
from fraud_daemons.supervision import overview
from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorClient, SupervisorSilent
from fraud_daemons.supervision.deployment import Deployment
from fraud_daemons.supervision.engine import (
    Refusal,
    alive,
    await_outside,
    ensure_engine,
    make_folders,
    named,
    start_substrate,
)
from fraud_daemons.supervision.substrate import service
from fraud_daemons.supervision.survivors import end_survivors
from fraud_daemons.supervision.turn import Blocker, Turn
from fraud_daemons.supervision.waiting import Tell, one_at_a_time, wait_until

UP_SECONDS_MAX = 90.0
DOWN_SECONDS_MAX = 60.0


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
    released: tuple[str, ...] = ()
    """What `resume` found held and started again."""


@dataclass(frozen=True)
class DownResult:
    """What `down` left: nothing, unless `survivors` names it."""

    elapsed_seconds: float
    survivors: tuple[str, ...] = ()
    killed: tuple[str, ...] = field(default=())
    """Processes that did not leave with their supervisor and had to be ended."""
    packs_seconds: float | None = None
    """How long the packs took to drain; None when nobody could be asked to."""

    @property
    def ok(self) -> bool:
        return not self.survivors


def up(
    deployment: Deployment,
    *,
    provision: Callable[[Any], object] | None = None,
    outside: Mapping[str, Refusal] | None = None,
    targets: Sequence[str] = (),
    wait: bool = True,
    timeout_seconds: float = UP_SECONDS_MAX,
    operator: str | None = None,
    tell: Tell = lambda _: None,
    clock: Clock | None = None,
) -> UpResult:
    """Bring up supervisord, the substrate and the packs, in order; harmless when already up.

    `outside`: the parts of the substrate that the profile brings itself, each with its refusal; they are waited for first.
    Raises ConfigurationError for what no waiting can heal, CommandError when the supervisor cannot be reached.
    """
    clock = clock or SystemClock()
    begun = clock.monotonic()
    workers = deployment.workers(targets)
    make_folders(deployment.run_dir)
    with one_at_a_time(deployment.run_dir, clock):
        client = SupervisorClient(deployment.profile.socket_path)
        deadline = begun + timeout_seconds
        if blocker := await_outside(outside or {}, tell=tell, deadline=deadline, clock=clock):
            return UpResult(False, False, clock.monotonic() - begun, (blocker,))
        reaped, already, changed = ensure_engine(deployment, client, tell=tell, clock=clock)
        blocker = start_substrate(deployment, client, operator=operator, tell=tell, deadline=deadline, clock=clock)
        if blocker:
            return UpResult(False, already, clock.monotonic() - begun, (blocker,), reaped, changed)
        if provision:
            tell("database: roles, migrations, topics")
            provision(deployment.profile)
        turn = Turn(deployment, client, action="up", operator=operator, tell=tell, deadline=deadline, clock=clock)
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
    """Drain all packs in parallel, ingress told first; then the substrate, then supervisord. Harmless when down."""
    clock = clock or SystemClock()
    begun = clock.monotonic()
    if not deployment.run_dir.is_dir():
        return DownResult(0.0)
    with one_at_a_time(deployment.run_dir, clock):
        client = SupervisorClient(deployment.profile.socket_path)
        turn = Turn(
            deployment,
            client,
            action="down",
            operator=operator,
            tell=tell,
            deadline=begun + timeout_seconds,
            clock=clock,
        )
        drained = None
        try:
            supervisor = client.snapshot().pid
            if deployment.packs:
                turn.stop(deployment.workers())
                drained = clock.monotonic() - begun
                turn.stop_together(deployment.services, words="stopping the substrate")
            client.shutdown()  # stops what is left, the substrate last
            wait_until(lambda: not alive(supervisor), turn.deadline, clock)
        except (SupervisorAbsent, SupervisorSilent) as error:
            tell(f"{error}; ending what is left")  # its children die with it: each asked the kernel for that
        leftover, survivors = end_survivors(deployment.run_dir)
        service.tidy(deployment)
        deployment.supervisor_beat.unlink(missing_ok=True)  # down on purpose, not gone
    killed = named(s for s in leftover if s not in survivors)
    return DownResult(clock.monotonic() - begun, named(survivors), killed, drained)


def start(deployment: Deployment, targets: Sequence[str], **options: Any) -> UpResult:
    """Start packs or workers and wait until they are ready. Raises SupervisorAbsent when the platform is down."""
    return _operate(deployment, targets, "start", _begin, **options)


def resume(deployment: Deployment, targets: Sequence[str], **options: Any) -> UpResult:
    """Start those of `targets` that are held."""
    client = SupervisorClient(deployment.profile.socket_path)
    processes = client.snapshot().processes
    held = [w for w in deployment.workers(targets) if w in processes and processes[w].held]
    if not held:
        return UpResult(ready=True, already=True, elapsed_seconds=0.0)
    result = _operate(deployment, held, "resume", lambda turn, work: turn.start(work.workers), **options)
    return replace(result, released=tuple(held))


def stop(deployment: Deployment, targets: Sequence[str], **options: Any) -> UpResult:
    """Drain and stop packs or workers; they stay stopped until `start` or `up`."""
    return _operate(deployment, targets, "stop", _end, **options)


def restart(deployment: Deployment, targets: Sequence[str], *, rolling: bool = False, **options: Any) -> UpResult:
    """Drain, stop, start, wait until ready: all of `targets` together, or one worker after the other."""

    def together(turn: Turn, work: _Work) -> list[Blocker]:
        return _end(turn, work) or _begin(turn, work)

    def one_by_one(turn: Turn, work: _Work) -> list[Blocker]:
        for part in work.parts():
            blocking = together(turn, part)
            if blocking:
                return blocking
        return []

    return _operate(deployment, targets, "restart", one_by_one if rolling else together, **options)


@dataclass(frozen=True)
class _Work:
    """What a command is about: workers, and services of the substrate beneath them."""

    workers: tuple[str, ...]
    services: tuple[str, ...]

    def parts(self) -> list[_Work]:
        """One by one, what stands beneath first."""
        return [_Work((), (name,)) for name in self.services] + [_Work((name,), ()) for name in self.workers]


def _end(turn: Turn, work: _Work) -> list[Blocker]:
    """Workers drain before what they stand on goes."""
    blocking = turn.stop(work.workers) if work.workers else []
    if blocking or not work.services:
        return blocking
    return turn.stop_together(work.services, words=f"stopping {', '.join(work.services)}")


def _begin(turn: Turn, work: _Work) -> list[Blocker]:
    if work.services:
        blocker = start_substrate(
            turn.deployment,
            turn.client,
            names=work.services,
            action=turn.action,
            operator=turn.operator,
            tell=turn.tell,
            deadline=turn.deadline,
            clock=turn.clock,
        )
        if blocker:
            return [blocker]
    return turn.start(work.workers) if work.workers else []


def _operate(
    deployment: Deployment,
    targets: Sequence[str],
    action: str,
    operation: Callable[[Turn, _Work], list[Blocker]],
    *,
    timeout_seconds: float = UP_SECONDS_MAX,
    operator: str | None = None,
    tell: Tell = lambda _: None,
    clock: Clock | None = None,
) -> UpResult:
    clock = clock or SystemClock()
    begun = clock.monotonic()
    work = _Work(deployment.workers(targets), deployment.services_of(targets))
    client = SupervisorClient(deployment.profile.socket_path)
    client.snapshot()  # says at once when the platform is down
    with one_at_a_time(deployment.run_dir, clock):
        turn = Turn(
            deployment,
            client,
            action=action,
            operator=operator,
            tell=tell,
            deadline=begun + timeout_seconds,
            clock=clock,
        )
        blocking = operation(turn, work)
    return UpResult(not blocking, True, clock.monotonic() - begun, tuple(blocking))


def status(deployment: Deployment, *, clock: Clock | None = None) -> PlatformPicture:
    """The picture of a running platform. Raises SupervisorAbsent or SupervisorSilent."""
    snapshot = SupervisorClient(deployment.profile.socket_path).snapshot()
    return overview.draw(deployment, snapshot, clock=clock or SystemClock())
