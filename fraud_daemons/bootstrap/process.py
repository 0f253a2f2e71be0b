"""One worker's process: put together from its profile, locked against a second copy, turned until it is told to stop."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from fraud_daemons.bootstrap import drill_orders, incident
from fraud_daemons.bootstrap.databases import database_for, same_server, servers
from fraud_daemons.bootstrap.stores import evidence_store
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.config.dsns import EVENT_BUS_DSN
from fraud_daemons.config.packs import Pack, load_packs, worker_module
from fraud_daemons.config.ports import another_port, chosen_port, port_holder
from fraud_daemons.config.profiles import Profile, load_profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.errors import ConfigurationError, ExitCode, FatalFault
from fraud_daemons.observability import events
from fraud_daemons.observability.code_version import code_version
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.logs import Logger, open_worker_log
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.postgres_runtime.connector import close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import role_of
from fraud_daemons.postgres_runtime.scope_watch import ScopeWatch
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.loop import Limits
from fraud_daemons.runtime.retiring import retirers
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.runtime.worker_lock import WorkerLock

_PR_SET_PDEATHSIG = 1
_LOCK_REST_SECONDS = 0.2
_COLLECT_AFTER_OBJECTS = 50_000


def find_worker(profile: Profile, name: str) -> tuple[Pack, Worker]:
    """The pack and definition of worker `name`. Raises ConfigurationError when no pack has it."""
    packs = load_packs(profile.root, enabled=profile.get("profile.packs"))
    for pack in packs:
        if name in pack.workers:
            return pack, load_worker(pack.name, name)
    known = ", ".join(worker for pack in packs for worker in pack.workers)
    raise ConfigurationError([f"no pack has a worker {name!r}; known: {known}"], source="packs")


def load_worker(pack: str, name: str) -> Worker:
    """Import a worker's definition. Raises ConfigurationError when its file exposes no WORKER of that name."""
    module = importlib.import_module(worker_module(pack, name))
    worker = getattr(module, "WORKER", None)
    if not isinstance(worker, Worker) or worker.name != name:
        raise ConfigurationError([f"{module.__name__} must expose WORKER = Worker(name={name!r}, …)"], source="packs")
    return worker


def run_worker(
    profile: Profile,
    name: str,
    *,
    look_at_platform: Callable[[], dict[str, Any]] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Run one worker in the foreground until it is told to stop; its exit code. `tell` speaks to whoever started it,
    `look_at_platform` gives what `platform status --json` says, for a worker that shows it."""
    os.umask(0o077)
    _die_with_parent()
    pack, worker = find_worker(profile, name)
    clock = SystemClock()
    get = profile.get
    log = open_worker_log(
        profile.path("logs", f"{name}.log"),
        level=get("logs.level"),
        file_bytes_max=get("logs.file_bytes_max"),
        files_max=get("logs.files_max"),
        worker=name,
        pack=pack.name,
    )
    stop = StopRequest()
    stop.listen()
    drill_orders.listen(profile, name)
    beat = _heartbeat(profile, pack.name, name, clock)
    lock = WorkerLock(profile.path("locks", f"{name}.lock"))
    if not _wait_for_lock(lock, beat, stop, log, tell=tell):
        return int(ExitCode.GOOD)
    context = _context(profile, pack, worker, clock=clock, log=log, stop=stop)
    context = replace(context, look_at_platform=look_at_platform)
    try:
        activities = [*worker.build(context), *retirers(context)]
    except FatalFault as error:
        log.error(events.WORKER_HELD, reason=error.reason, message=str(error))
        beat.beat("held", error.reason)
        return int(ExitCode.CONFIGURATION)
    _collect_garbage_seldom()
    log.info(events.WORKER_STARTED, pid=os.getpid(), version=code_version())
    loop = incident.loop_of(profile)(
        activities,
        beat=beat,
        stop=stop,
        clock=clock,
        log=log,
        limits=Limits(
            retry_delay_seconds_max=get("loop.retry_delay_seconds_max"), bugs_in_a_row_max=get("loop.bugs_in_a_row_max")
        ),
        connector_counters=partial(incident.connector_figures, profile),
    )
    with ScopeWatch(lambda scope: log.warning(events.SCOPE_HELD_LONG, **asdict(scope))):
        code = loop.run()
    close_thread_connections()
    log.info(events.WORKER_STOPPED, exit_code=int(code))
    return int(code)


def _collect_garbage_seldom() -> None:
    """Batches die by reference count; the collector's default walks all that a worker holds every few hundred records."""
    gc.collect()
    gc.freeze()  # what a worker is made of stays until it ends
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 50)


def _context(
    profile: Profile, pack: Pack, worker: Worker, *, clock: Clock, log: Logger, stop: StopRequest
) -> WorkerContext:
    application_name = f"{pack.name}/{worker.name}/{os.getpid()}"
    role = role_of(worker.schema)

    @cache
    def database_of(name: str, *, long_statements: bool = False, role: str = role) -> Database:
        found = database_for(
            profile, name, role=role, application_name=application_name, long_statements=long_statements,
            keeps_plans=worker.keeps_plans and not long_statements,
        )  # fmt: skip
        return incident.with_connector(profile, found)

    database = database_of(worker.dsn)
    same = same_server(profile, worker.dsn)
    bus_database = database if same else database_of(EVENT_BUS_DSN, role=role_of("bus"))
    return WorkerContext(
        worker=worker,
        pack=pack.name,
        profile=profile,
        database=database,
        bus=PostgresBus(bus_database.scope),
        same_server=same,
        make_store=lambda: evidence_store(profile),
        read_secrets=lambda: read_secrets(profile.run_dir),
        port_of=lambda service: chosen_port(profile, f"{service}_port"),
        another_port=partial(_another_port, profile, log),
        database_of=database_of,
        long_database_of=partial(database_of, long_statements=True),
        clock=clock,
        log=log,
        stop=stop,
        servers=servers(profile),
        reload_profile=partial(load_profile, profile.name, root=profile.root, environment=os.environ),
    )


def _another_port(profile: Profile, log: Logger, service: str, taken: int) -> int | None:
    holder = port_holder(taken) or "another process"
    port = another_port(profile, f"{service}_port", taken=taken)
    if port is not None:
        log.warning(events.PORT_MOVED, service=service, port=port, taken=taken, holder=holder)
    return port


def _heartbeat(profile: Profile, pack: str, worker: str, clock: Clock) -> HeartbeatFile:
    folder: Path = profile.path("beats")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    me = identity_of(os.getpid())
    if me is None:
        raise RuntimeError("this process is not in /proc")
    return HeartbeatFile(
        folder / f"{worker}.json", worker=worker, pack=pack, process=me, clock=clock, version=code_version()
    )


def _wait_for_lock(
    lock: WorkerLock, beat: HeartbeatFile, stop: StopRequest, log: Logger, *, tell: Callable[[str], None]
) -> bool:
    """Wait until an older copy is gone; False when asked to stop meanwhile."""
    told = False
    while not lock.try_take():  # bounded by the other copy's life; a stop request ends it
        if not told:
            log.warning(events.LOCK_WAITED_FOR, holder=lock.holder())
            tell(f"another copy holds the lock: {lock.holder()}; waiting until it is gone, Ctrl-C gives up")
            told = True
        if _supervised():  # a copy started by hand must not write over the heartbeat of the one that works
            beat.beat("waiting", f"another copy holds the lock: {lock.holder()}")
        stop.rest(_LOCK_REST_SECONDS)
        if stop.requested:
            return False
    return True


def _supervised() -> bool:
    """Whether supervisord started this process."""
    return "SUPERVISOR_ENABLED" in os.environ


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, so that it never leaves an orphan; Linux only."""
    if not _supervised():
        return  # in a terminal or under another supervisor the parent's end means nothing special
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() == 1:  # it died before we asked
        raise SystemExit(int(ExitCode.NO))
