"""Brings the substrate to what the code expects: database, schemas, roles, topics, the gate's principals; begins runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from fraud_daemons.bootstrap.databases import (
    DATABASE_NAME,
    dsn_problems,
    operator_database,
    owner,
    owner_database,
    servers,
)
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock
from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN
from fraud_daemons.config.packs import load_packs
from fraud_daemons.config.profiles import Profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.config.topics import TOPICS
from fraud_daemons.errors import ConfigurationError, PlatformError
from fraud_daemons.observability.current_run import note_current_run
from fraud_daemons.postgres_runtime.connector import Connection, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import (
    READER_SCHEMAS,
    SERVICE_SCHEMAS,
    STATE_SCHEMAS,
    Provisioned,
    all_roles,
    ensure_database,
    pending_migrations,
    with_database,
)
from fraud_daemons.postgres_runtime.provisioning import (
    provision as provision_server,
)
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import environment, runs
from fraud_daemons.state.runs import Run

SCHEMAS = ("bus", "control", *READER_SCHEMAS, *SERVICE_SCHEMAS, *STATE_SCHEMAS)


def provision(profile: Profile) -> Provisioned:
    """Database, schemas, roles, migrations, topics, on every server that a DSN name leads to. Called by `platform up` when
    the substrate serves.

    Raises ConfigurationError for DSNs that cannot be, FatalFault for a database newer than the code.
    """
    if problems := dsn_problems(profile):
        raise ConfigurationError(problems, source=f"profile {profile.name}")
    secrets = read_secrets(profile.run_dir).get("postgres", {})
    created = False
    if profile.embedded_postgres:
        created = ensure_database(with_database(owner(profile), "postgres"), DATABASE_NAME)
    passwords = {role: secrets[role] for role in all_roles() if role in secrets}
    applied: tuple[str, ...] = ()
    for server in servers(profile):
        applied += provision_server(
            owner(profile, server.name),
            schemas=server.schemas,
            passwords=passwords if profile.get("database.roles") == "create" else None,
            application_name=f"platform/up/{os.getpid()}",
        )
    _note_catalogues(profile)
    bus_database = owner_database(profile, "up", EVENT_BUS_DSN)
    PostgresBus(bus_database.scope).ensure_topics(TOPICS, partitions=profile.get("bus.partitions"))
    _subscribe(profile, bus_database)
    _seed(profile, owner_database(profile, "up", IG_ADMISSION_DSN))
    close_thread_connections()
    return Provisioned(database_created=created, migrations_applied=applied)


def _subscribe(profile: Profile, bus: Database) -> None:
    """Tell the bus who reads what, so that nothing is trimmed before a new worker has begun. One that cannot be imported
    keeps the subscriptions it has; it dies when it is started, and `up` tells its last words."""
    from fraud_daemons.bootstrap.process import load_worker
    from fraud_daemons.state.trimming import subscribe

    packs = load_packs(profile.root, enabled=profile.get("profile.packs"))
    workers = []
    for pack in packs:
        for name in pack.workers:
            try:
                workers.append(load_worker(pack.name, name))
            except (ImportError, SyntaxError):
                continue
    with bus.scope() as connection:
        subscribe(connection, [(topic, worker.name) for worker in workers for topic in worker.consumes])


def _note_catalogues(profile: Profile) -> None:
    """What each server looks like, where its migrations have changed: `environment_conformance` compares with it."""
    from fraud_daemons.state import catalogue

    for server in servers(profile):
        with owner_database(profile, "up", server.name).scope() as there:
            head, objects = catalogue.head(there), catalogue.catalogue(there, server.schemas)
        with owner_database(profile, "up").scope() as connection:
            catalogue.keep(connection, server.name, head=head, objects=objects)


def pending(connection: Connection, *, schemas: Sequence[str] = SCHEMAS) -> tuple[str, ...]:
    """Migrations that `up` would apply on a server with `schemas` (see `servers`). Raises FatalFault when the database is
    newer than the code."""
    return pending_migrations(connection, schemas=schemas)


def _seed(profile: Profile, database: Database) -> None:
    """What the gate must know before the first request: who may send what. Keys are kept hashed."""
    from fraud_daemons.state import principals

    keys = read_secrets(profile.run_dir).get("gate", {})
    with database.scope() as connection:
        principals.ensure(connection, keys)


def begin_run(profile: Profile, database: Database, *, live: bool, note: str, clock: Clock, by: str) -> Run:
    """Begin a run: its row, and the hint for the status screen. Raises CommandError for two in one second."""
    elsewhere = _sessions_elsewhere(profile)
    with database.scope() as connection:
        run = runs.begin(connection, at=clock.now(), live=live, note=note, by=by, sessions_elsewhere=elsewhere)
    note_current_run(profile.run_dir, run.platform_run_id)
    return run


def _sessions_elsewhere(profile: Profile) -> dict[str, int]:
    """What each server beside PLATFORM_DSN's has opened; one that is away is left out, and a run begins without it."""
    found = {}
    for server in servers(profile)[1:]:
        with suppress(PlatformError), operator_database(profile, "run", server.name).scope() as connection:
            found[server.name] = environment.sessions_opened(connection)
    return found
