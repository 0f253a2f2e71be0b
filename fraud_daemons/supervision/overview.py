"""Translates supervisord's words into the plain values that `status` judges; the two know nothing of each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fraud_daemons.clock import Clock
from fraud_daemons.config.ports import chosen_port
from fraud_daemons.observability.current_run import read_current_run
from fraud_daemons.observability.disk import DiskUse, disk_use
from fraud_daemons.observability.process_identity import frozen
from fraud_daemons.status.picture import (
    FAILING,
    HELD,
    READY,
    STARTING,
    STOPPED,
    WAITING,
    PlatformPicture,
    ProcessState,
    ServicePicture,
    draw_picture,
    worst,
)
from fraud_daemons.supervision import watcher
from fraud_daemons.supervision.client import Snapshot, SupervisedProcess
from fraud_daemons.supervision.deployment import POSTGRES, Deployment
from fraud_daemons.supervision.substrate.doors import loopback_door, postgres_door

STARTING_SECONDS_MAX = 10.0


def look(deployment: Deployment, *, clock: Clock) -> tuple[PlatformPicture, bool]:
    """The picture now, and whether anything of the platform runs: what `platform status` and the console both show.

    When the supervisor gives no answer it is drawn from heartbeats, locks and audit, and says so in `supervisor`.
    """
    snapshot, supervisor = watcher.ask(deployment, clock=clock)
    picture = draw(deployment, snapshot, clock=clock)
    unwatched = snapshot is not None and supervisor.status != watcher.RUNNING
    verdict = worst([FAILING, picture.verdict]) if unwatched else picture.verdict  # green and unwatched is not green
    return replace(picture, supervisor=supervisor, verdict=verdict), snapshot is not None


def draw(deployment: Deployment, snapshot: Snapshot | None, *, clock: Clock) -> PlatformPicture:
    """The picture of a deployment; without a snapshot everything is stopped."""
    processes = snapshot.processes if snapshot else {}
    # what runs decides: a shell that lacks PLATFORM_DSN must not miss a server that was never ours
    services = [name for name in deployment.services if snapshot is None or name in processes]
    return draw_picture(
        profile=deployment.profile.name,
        platform_run_id=read_current_run(deployment.run_dir),
        packs={pack.name: pack.workers for pack in deployment.packs},
        processes=[process_state(process) for process in processes.values()],
        services=[_service(deployment, name, processes.get(name)) for name in services],
        beats=deployment.run_dir / "beats",
        beat_age_seconds_max=deployment.profile.get("loop.beat_age_seconds_max"),
        now_monotonic=clock.monotonic(),
        disk=_disk(deployment.run_dir),
        disk_free_bytes_min=deployment.profile.get("disk.free_bytes_min"),
    )


def _disk(run_dir: Path) -> DiskUse | None:
    try:
        return disk_use(run_dir)
    except OSError:  # status must answer on a machine whose disk does not
        return None


def process_state(process: SupervisedProcess) -> ProcessState:
    """One of supervisord's processes as a plain value, with how it last ended when it does not run."""
    return ProcessState(
        name=process.name,
        pack=process.pack,
        state=process.state,
        pid=process.pid,
        uptime_seconds=process.uptime_seconds,
        restarts=process.restarts,
        exit_code=process.exit_code,
        held=process.held_reason is not None,
        reason=None if process.runs else _reason(process),
    )


def _reason(process: SupervisedProcess) -> str | None:
    if process.spawn_error and not process.last_death:
        return process.spawn_error
    if process.last_death is None:
        return None
    if process.held_reason:
        return process.held_reason
    if process.held:
        return f"config: {process.last_death}"
    wait = f", again in {process.respawn_seconds:.0f} s" if process.respawn_seconds else ""
    return f"{process.last_death}{wait}"


def _service(deployment: Deployment, name: str, process: SupervisedProcess | None) -> ServicePicture:
    if process is None or not process.runs:
        status = (
            HELD
            if process and process.held
            else FAILING
            if process and process.state in ("exited", "backoff")
            else STOPPED
        )
        return ServicePicture(name, status, None, _reason(process) if process and status != STOPPED else None)
    if process.pid and frozen(process.pid):
        return ServicePicture(
            name, FAILING, process.pid, "frozen by a signal; thaw it with: kill -CONT " + str(process.pid)
        )
    if name == POSTGRES:
        closed = postgres_door(deployment.run_dir)
    else:
        closed = loopback_door(chosen_port(deployment.profile, "objectstore_port"))
    if closed is None:
        return ServicePicture(name, READY, process.pid)
    young = (process.uptime_seconds or 0.0) < STARTING_SECONDS_MAX
    return ServicePicture(name, STARTING if young else WAITING, process.pid, closed)
