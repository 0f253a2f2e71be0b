"""The composition root: the only place that names concrete adapters.

`run_worker` puts one worker together and turns its loop; `provision` brings the substrate to what the code expects;
`database_for` and `evidence_store` serve the commands.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import fraud_daemons
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.config.dsns import EVENT_BUS_DSN, PLATFORM_DSN
from fraud_daemons.config.embedded import embedded_dsn
from fraud_daemons.config.packs import Pack, load_packs, worker_module
from fraud_daemons.config.ports import chosen_port
from fraud_daemons.config.profiles import Profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.errors import ConfigurationError, ExitCode, FatalFault
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings
from fraud_daemons.observability import events
from fraud_daemons.observability.current_run import note_current_run
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.logs import Logger, open_worker_log
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.postgres_runtime import counters
from fraud_daemons.postgres_runtime.connector import Connection, ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import (
    OPERATOR,
    REPORTER,
    SERVICE_SCHEMAS,
    STATE_SCHEMAS,
    Provisioned,
    all_roles,
    ensure_database,
    pending_migrations,
    role_of,
    with_database,
)
from fraud_daemons.postgres_runtime.provisioning import (
    provision as provision_server,
)
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.loop import Limits, Loop
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.runtime.worker_lock import WorkerLock
from fraud_daemons.state import runs
from fraud_daemons.state.runs import Run

DATABASE_NAME = "fraud_platform"
TOPICS = (
    "control",
    *OUTPUTS,
    TRUTH,
    "quarantine",
    "flows.bound",
    "flows.featured",
    "decisions",
    "action_intents",
    "action_outcomes",
    "audit_chains",
    "case_triggers",
    "case_events",
    "labels",
)
SCHEMAS = ("bus", "control", "reporter", *SERVICE_SCHEMAS, *STATE_SCHEMAS)
_PR_SET_PDEATHSIG = 1
_LOCK_REST_SECONDS = 0.2


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


def dsn_source(profile: Profile, name: str, *, role: str) -> DsnSource:
    """Where DSN `name` comes from: its own setting, else PLATFORM_DSN, else the embedded server, as `role`."""

    def read() -> str:
        given = profile.dsns.get(name) or profile.dsns.get(PLATFORM_DSN)
        passwords = read_secrets(profile.run_dir).get("postgres", {})
        if given is None:
            return embedded_dsn(profile.run_dir, user=role, password=passwords.get(role, ""), dbname=DATABASE_NAME)
        if profile.get("database.roles") == "given" or role not in passwords:
            return given
        return make_conninfo(given, user=role, password=passwords[role])

    # named by where it leads, so that two names on one server share a connection
    return DsnSource(f"{name if name in profile.dsns else PLATFORM_DSN} as {role}", read)


def database_for(
    profile: Profile, name: str, *, role: str, application_name: str, long_statements: bool = False
) -> Database:
    """A database by DSN name, with the profile's timeouts; `long_statements` for whoever reads a whole run at once."""
    source = dsn_source(profile, name, role=role)
    return Database(source, _options(profile, application_name=application_name, long_statements=long_statements))


def _options(profile: Profile, *, application_name: str, long_statements: bool) -> ConnectOptions:
    get, long = profile.get, "long_" if long_statements else ""
    return ConnectOptions(
        application_name=application_name,
        connect_timeout=get("database.connect_timeout_seconds"),
        statement_timeout=get(f"database.{long}statement_timeout_seconds"),
        client_deadline=get(f"database.{long}client_deadline_seconds"),
        lock_timeout=get("database.lock_timeout_seconds"),
        idle_in_transaction=get("database.idle_in_transaction_seconds"),
        age_max=get("database.connection_age_seconds_max"),
    )


def operator_database(profile: Profile, command: str) -> Database:
    """What the commands use: reads everything, writes runs, pins and requests."""
    name = f"platform/{command}/{os.getpid()}"
    return database_for(profile, PLATFORM_DSN, role=OPERATOR, application_name=name, long_statements=True)


def operator_bus(database: Database) -> PostgresBus:
    """The bus as the commands see it."""
    return PostgresBus(database.scope)


def owner_dsn(profile: Profile) -> tuple[str, str]:
    """The owner's DSN without its password, and the password: for tools that take a DSN in argv."""
    parts = conninfo_to_dict(_owner(profile))
    password = str(parts.pop("password", "") or "")
    return make_conninfo("", **parts), password


def begin_run(profile: Profile, database: Database, *, live: bool, note: str, clock: Clock) -> Run:
    """Begin a run: its row, and the hint for the status screen. Raises CommandError for two in one second."""
    with database.scope() as connection:
        run = runs.begin(connection, at=clock.now(), live=live, note=note)
    note_current_run(profile.run_dir, run.platform_run_id)
    return run


def evidence_store(profile: Profile, *, identity: str = "writer") -> EvidenceStore:
    """The profile's evidence store; `identity` = "writer" (workers) or "admin" (platform up)."""
    return S3EvidenceStore(lambda: s3_settings(profile, identity=identity))


def s3_settings(profile: Profile, *, identity: str) -> S3Settings:
    """Endpoint, bucket and keys. Keys of an external store come from the environment (AWS_*) via secrets.json or boto3."""
    keys = read_secrets(profile.run_dir).get("objectstore", {})
    prefix = "writer_" if identity == "writer" else ""
    endpoint = profile.get("objectstore.endpoint") or f"http://127.0.0.1:{chosen_port(profile, 'objectstore_port')}"
    if not profile.embedded_objectstore:
        keys = {
            f"{prefix}access_key": os.environ.get("AWS_ACCESS_KEY_ID", ""),
            f"{prefix}secret_key": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        }
    return S3Settings(
        endpoint=endpoint,
        bucket=profile.get("objectstore.bucket"),
        region=profile.get("objectstore.region"),
        access_key=keys.get(f"{prefix}access_key", ""),
        secret_key=keys.get(f"{prefix}secret_key", ""),
    )


def owner_database(profile: Profile, command: str) -> Database:
    """The database as its owner: for `up` and `check`, never for a worker."""
    options = _options(profile, application_name=f"platform/{command}/{os.getpid()}", long_statements=True)
    return Database(DsnSource(f"{PLATFORM_DSN} as owner", lambda: _owner(profile)), options)


def pending(connection: Connection) -> tuple[str, ...]:
    """Migrations that `up` would apply. Raises FatalFault when the database is newer than the code."""
    return pending_migrations(connection, schemas=SCHEMAS)


def dsn_problems(profile: Profile) -> list[str]:
    """What is wrong with the explicit DSNs before anybody connects. Never quotes one: they hold passwords."""
    problems, places = [], {PLATFORM_DSN: _place(profile.dsns.get(PLATFORM_DSN, ""))}
    for name, dsn in profile.dsns.items():
        try:
            places[name] = _place(dsn)
        except ConfigurationError:
            problems.append(f"{name}: not a libpq connection string or URL, such as postgresql://user:password@host/db")
            continue
        if places[name] != places[PLATFORM_DSN]:
            why = ": the gate admits and appends in one commit" if name in (EVENT_BUS_DSN, "IG_ADMISSION_DSN") else ""
            problems.append(
                f"{name}: leads to another database than {PLATFORM_DSN}; not yet possible{why} - give both the same, or"
                f" only {PLATFORM_DSN}"
            )
    return problems


def provision(profile: Profile) -> Provisioned:
    """Database, schemas, roles, migrations, topics. Called by `platform up` when the substrate serves.

    Raises ConfigurationError for a DSN that leads elsewhere, FatalFault for a database newer than the code.
    """
    if problems := dsn_problems(profile):
        raise ConfigurationError(problems, source=f"profile {profile.name}")
    secrets = read_secrets(profile.run_dir).get("postgres", {})
    created = False
    owner = _owner(profile)
    if profile.embedded_postgres:
        created = ensure_database(with_database(owner, "postgres"), DATABASE_NAME)
    passwords = {role: secrets[role] for role in all_roles() if role in secrets}
    applied = provision_server(
        owner,
        schemas=SCHEMAS,
        passwords=passwords if profile.get("database.roles") == "create" else None,
        application_name=f"platform/up/{os.getpid()}",
    )
    database = owner_database(profile, "up")
    PostgresBus(database.scope).ensure_topics(TOPICS, partitions=profile.get("bus.partitions"))
    _seed(profile, database)
    close_thread_connections()
    return Provisioned(database_created=created, migrations_applied=applied)


def _owner(profile: Profile) -> str:
    """DSN of the owner: PLATFORM_DSN as given, or the embedded server's own."""
    password = read_secrets(profile.run_dir).get("postgres", {}).get("fp_owner", "")
    embedded = embedded_dsn(profile.run_dir, user="fp_owner", password=password, dbname=DATABASE_NAME)
    return profile.dsns.get(PLATFORM_DSN) or embedded


def _seed(profile: Profile, database: Database) -> None:
    """What the gate must know before the first request: who may send what. Keys are kept hashed."""
    from fraud_daemons.state import principals

    keys = read_secrets(profile.run_dir).get("gate", {})
    with database.scope() as connection:
        principals.ensure(connection, keys)


def run_worker(profile: Profile, name: str, *, tell: Callable[[str], None] = lambda _: None) -> int:
    """Run one worker in the foreground until it is told to stop; its exit code. `tell` speaks to whoever started it."""
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
    beat = _heartbeat(profile, pack.name, name, clock)
    lock = WorkerLock(profile.path("locks", f"{name}.lock"))
    if not _wait_for_lock(lock, beat, stop, log, tell=tell):
        return int(ExitCode.GOOD)
    try:
        activities = worker.build(_context(profile, pack, worker, clock=clock, log=log, stop=stop))
    except FatalFault as error:
        log.error(events.WORKER_HELD, reason=error.reason, message=str(error))
        beat.beat("held", error.reason)
        return int(ExitCode.CONFIGURATION)
    log.info(events.WORKER_STARTED, pid=os.getpid(), version=fraud_daemons.__version__)
    loop = Loop(
        activities,
        beat=beat,
        stop=stop,
        clock=clock,
        log=log,
        limits=Limits(
            retry_delay_seconds_max=get("loop.retry_delay_seconds_max"), bugs_in_a_row_max=get("loop.bugs_in_a_row_max")
        ),
        connector_counters=counters,
    )
    code = loop.run()
    close_thread_connections()
    log.info(events.WORKER_STOPPED, exit_code=int(code))
    return int(code)


def _context(
    profile: Profile, pack: Pack, worker: Worker, *, clock: Clock, log: Logger, stop: StopRequest
) -> WorkerContext:
    application_name = f"{pack.name}/{worker.name}/{os.getpid()}"
    role = REPORTER if worker.schema == "reporter" else role_of(worker.schema)
    database_of = partial(database_for, profile, role=role, application_name=application_name)
    database = database_of(worker.dsn)
    same = same_server(profile, worker.dsn)
    bus_database = (
        database
        if same
        else database_for(profile, EVENT_BUS_DSN, role=role_of("bus"), application_name=application_name)
    )
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
        database_of=database_of,
        long_database_of=partial(database_of, long_statements=True),
        clock=clock,
        log=log,
        stop=stop,
    )


def same_server(profile: Profile, name: str) -> bool:
    """Whether a DSN's tables stand on the bus's own server and database: then the outbox *is* the log."""

    def place(dsn_name: str) -> Mapping[str, Any]:
        return _place(profile.dsns.get(dsn_name) or profile.dsns.get(PLATFORM_DSN, ""))

    return place(name) == place(EVENT_BUS_DSN)


def _place(dsn: str) -> Mapping[str, Any]:
    """Server and database of a DSN; {} for the embedded one."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # without its text and its cause: libpq quotes the string, with the password in it
        raise ConfigurationError(["a DSN is not a libpq connection string or URL"], source="database.dsns") from None
    return {key: value for key, value in parts.items() if key in ("host", "hostaddr", "port", "dbname")}


def _heartbeat(profile: Profile, pack: str, worker: str, clock: Clock) -> HeartbeatFile:
    folder: Path = profile.path("beats")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    me = identity_of(os.getpid())
    if me is None:
        raise RuntimeError("this process is not in /proc")
    return HeartbeatFile(
        folder / f"{worker}.json", worker=worker, pack=pack, process=me, clock=clock, version=fraud_daemons.__version__
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
