"""One picture of the platform from process states and heartbeats. It judges; it changes, connects and restarts nothing.

A worker is `running ready` only when its process runs *and* the heartbeat is of that very process, young enough, and says
ready. A pid alone proves nothing: the seed's dashboards were green over dead loops for days.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.disk import DiskUse
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat
from fraud_daemons.observability.process_identity import identity_of

READY, STARTING, WAITING = "running ready", "running starting", "running waiting"
FAILING, STOPPED, HELD = "running failing", "stopped", "held"
WORST_LAST: Final = (READY, STARTING, WAITING, FAILING, STOPPED, HELD)

DISK_REASON: Final = "disk: "
"""How the gate's reason begins while the disk guard has shut it."""
FIRST_BEAT_SECONDS_MAX: Final = 20.0  # sixteen interpreters starting at once on two cores need several


@dataclass(frozen=True)
class ProcessState:
    """What the supervisor says of one process; `state` is running, starting, stopping, stopped, exited, backoff or fatal."""

    name: str
    pack: str
    state: str
    pid: int | None = None
    uptime_seconds: float | None = None
    restarts: int = 0
    exit_code: int | None = None
    held: bool = False
    """It died too often and is not started again until somebody says so."""
    reason: str | None = None
    """How it last ended, or why it cannot be started."""


@dataclass(frozen=True)
class WorkerPicture:
    """One worker: `process` is the supervisor's word, `status` the verdict, `reason` why it is not ready."""

    worker: str
    process: str
    ready: bool
    status: str
    reason: str | None
    pid: int | None
    uptime_seconds: float | None
    restarts: int
    beat_age_seconds: float | None
    lag_records: int | None
    rss_bytes: int | None
    dead_letters: int = 0
    reason_seconds: float | None = None
    """How long the reason has held."""


@dataclass(frozen=True)
class PackPicture:
    """One pack: as bad as its worst worker."""

    pack: str
    status: str
    reason: str | None
    workers: tuple[WorkerPicture, ...]


@dataclass(frozen=True)
class ServicePicture:
    """One embedded service of the substrate."""

    service: str
    status: str
    pid: int | None
    reason: str | None = None


@dataclass(frozen=True)
class SupervisorPicture:
    """supervisord itself: running, frozen (by a signal), silent, gone (killed) or stopped."""

    pid: int | None
    status: str
    beat_age_seconds: float | None
    """Since its own last beat; None when it does not run."""
    reason: str | None = None


@dataclass(frozen=True)
class DiskPicture:
    """Room on the file system of the run directory, and whether the gate is shut for want of it."""

    path: str
    free_bytes: int
    total_bytes: int
    guard_free_bytes: int
    guarded: bool
    stored_bytes: Mapping[str, int] = field(default_factory=dict)
    """What the bus's log, the database it stands in and the embedded objects take, as archive_writer last measured it."""
    held_back: Mapping[str, str] = field(default_factory=dict)
    """Topic -> who keeps the trimming of what is due from it."""


@dataclass(frozen=True)
class PlatformPicture:
    """The whole platform; `verdict` is the worst status in it."""

    profile: str
    platform_run_id: str | None
    verdict: str
    packs: tuple[PackPicture, ...]
    substrate: tuple[ServicePicture, ...]
    disk: DiskPicture | None = None
    """None when the file system gives no answer."""
    supervisor: SupervisorPicture | None = None
    """None in a picture that nobody asked the supervisor for."""

    def to_json(self) -> dict[str, Any]:
        """The object of `platform status --json`."""
        return asdict(self)

    @property
    def workers(self) -> tuple[WorkerPicture, ...]:
        return tuple(worker for pack in self.packs for worker in pack.workers)


def draw_picture(
    *,
    profile: str,
    platform_run_id: str | None,
    packs: Mapping[str, Sequence[str]],
    processes: Iterable[ProcessState],
    services: Sequence[ServicePicture],
    beats: Path,
    beat_age_seconds_max: float,
    now_monotonic: float,
    disk: DiskUse | None = None,
    disk_free_bytes_min: int = 0,
) -> PlatformPicture:
    """Put together process states and the heartbeats in `beats`, for `packs` (pack -> workers) in their order."""
    by_name = {process.name: process for process in processes}
    pictures, stored, held_back = [], dict[str, int](), dict[str, str]()
    for pack, workers in packs.items():
        drawn = []
        for worker in workers:
            beat = read_heartbeat(beats / f"{worker}.json")
            if beat:
                stored |= beat.detail.get("stored_bytes", {})
                held_back |= beat.detail.get("log", {}).get("held_back", {})
            process = by_name.get(worker, ProcessState(name=worker, pack=pack, state="stopped"))
            drawn.append(
                judge_worker(process, beat, now_monotonic=now_monotonic, beat_age_seconds_max=beat_age_seconds_max)
            )
        pictures.append(_pack(pack, drawn))
    return PlatformPicture(
        profile=profile,
        platform_run_id=platform_run_id,
        verdict=worst([pack.status for pack in pictures] + [service.status for service in services]),
        packs=tuple(pictures),
        substrate=tuple(services),
        disk=judge_disk(
            disk,
            disk_free_bytes_min,
            [w for pack in pictures for w in pack.workers],
            stored_bytes=stored,
            held_back=held_back,
        ),
    )


def judge_worker(
    process: ProcessState, beat: Heartbeat | None, *, now_monotonic: float, beat_age_seconds_max: float
) -> WorkerPicture:
    """The status of one worker from what the supervisor says and what it says itself."""
    own = own_beat(process.pid, beat)
    age = now_monotonic - own.beat_monotonic if own else None
    status, reason, reason_seconds = _verdict(
        process, own, age, now_monotonic=now_monotonic, age_max=beat_age_seconds_max
    )
    if status == HELD and not process.held and beat and beat.state == "held":
        reason = beat.reason  # its last words, better than its exit code; the process has gone
    return WorkerPicture(
        worker=process.name,
        process=process.state,
        ready=status == READY,
        status=status,
        reason=reason,
        pid=process.pid,
        uptime_seconds=round(process.uptime_seconds, 1) if process.uptime_seconds is not None else None,
        restarts=process.restarts,
        beat_age_seconds=round(age, 3) if age is not None else None,
        lag_records=own.lag_records if own else None,
        rss_bytes=resident_bytes(process.pid) if process.pid else None,
        dead_letters=own.dead_letters if own else 0,
        reason_seconds=round(reason_seconds, 1) if reason_seconds is not None else None,
    )


def own_beat(pid: int | None, beat: Heartbeat | None) -> Heartbeat | None:
    """The beat, if the very process `pid` wrote it: start time and boot are compared too, for pids come again."""
    return beat if beat and pid and beat.process == identity_of(pid) else None


def judge_disk(
    use: DiskUse | None,
    free_bytes_min: int,
    workers: Sequence[WorkerPicture],
    *,
    stored_bytes: Mapping[str, int] | None = None,
    held_back: Mapping[str, str] | None = None,
) -> DiskPicture | None:
    """The room on the disk; guarded below the minimum, and for as long as a worker waits for more."""
    if use is None:
        return None
    shut = any(
        worker.reason and worker.reason.startswith(DISK_REASON) for worker in workers
    )  # it opens with a tenth more
    guarded = shut or use.free_bytes < free_bytes_min
    return DiskPicture(
        use.path, use.free_bytes, use.total_bytes, free_bytes_min, guarded, stored_bytes or {}, held_back or {}
    )


def worst(statuses: Sequence[str]) -> str:
    """The worst of several statuses; `stopped` when there is none."""
    return max(statuses, key=WORST_LAST.index, default=STOPPED)


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process, None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


_Verdict = tuple[str, str | None, float | None]


def _verdict(
    process: ProcessState, own: Heartbeat | None, age: float | None, *, now_monotonic: float, age_max: float
) -> _Verdict:
    match process.state:
        case "running" | "starting":
            return _of_running(process, own, age, now_monotonic=now_monotonic, age_max=age_max)
        case "fatal":
            return HELD, process.reason or "cannot be started", None
        case "exited" if process.held:
            return HELD, process.reason or "crash loop", None
        case "exited" if process.exit_code == ExitCode.CONFIGURATION:
            return HELD, process.reason or "config", None
        case "exited" if process.exit_code == ExitCode.GOOD:
            return STOPPED, "finished", None
        case "exited" | "backoff":
            return FAILING, process.reason or "restarting", None
        case "stopping":
            return STOPPED, "stopping", None
        case _:
            return STOPPED, None, None


def _of_running(
    process: ProcessState, own: Heartbeat | None, age: float | None, *, now_monotonic: float, age_max: float
) -> _Verdict:
    if own is None or age is None:
        uptime = process.uptime_seconds or 0.0
        status = STARTING if uptime <= FIRST_BEAT_SECONDS_MAX else FAILING
        return status, "no heartbeat yet", uptime
    if age > age_max:
        return FAILING, "no heartbeat", age
    since = now_monotonic - own.since_monotonic
    match own.state:
        case "ready":
            return READY, None, None
        case "starting":
            return STARTING, own.reason, since
        case "waiting":
            return WAITING, own.reason, since
        case "failing":
            return FAILING, own.reason, since
        case "held":
            return HELD, own.reason, since
        case "stopping":
            return STOPPED, "stopping", since


def _pack(name: str, workers: list[WorkerPicture]) -> PackPicture:
    status = worst([worker.status for worker in workers])
    culprit = next((w for w in workers if w.status == status and w.reason), None)
    return PackPicture(
        pack=name, status=status, reason=reason_text(culprit) if culprit else None, workers=tuple(workers)
    )


def reason_text(worker: WorkerPicture) -> str | None:
    """A reason with its age: "postgres: refused, 14 s"."""
    if worker.reason is None or worker.reason_seconds is None:
        return worker.reason
    return f"{worker.reason}, {age_text(worker.reason_seconds)}"


def age_text(seconds: float) -> str:
    """A duration in its two largest units: 14 s, 12m 05s, 3h 20m, 2d 04h."""
    whole = int(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02d}h"


def narrowed(picture: PlatformPicture, targets: Sequence[str]) -> PlatformPicture:
    """The picture of some packs, workers and services only, with their own verdict."""
    kept = []
    for pack in picture.packs:
        workers = [w for w in pack.workers if pack.pack in targets or w.worker in targets]
        if workers:
            kept.append(_pack(pack.pack, workers))
    services = tuple(s for s in picture.substrate if s.service in targets or "substrate" in targets)
    verdict = worst([*(pack.status for pack in kept), *(service.status for service in services)])
    return replace(picture, packs=tuple(kept), substrate=services, verdict=verdict)
