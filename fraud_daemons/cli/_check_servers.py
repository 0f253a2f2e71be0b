"""What `platform check` asks of running servers: logins, migrations, topics, the bucket and its conditional put.

A server of ours that is down is no finding: what needs it is "not checked". A server that the profile names is asked
whether the platform is up or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from fraud_daemons import bootstrap
from fraud_daemons.cli._finding import Finding, not_checked, ok, wrong
from fraud_daemons.config.dsns import EVENT_BUS_DSN, PLATFORM_DSN
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import FatalFault, PlatformError
from fraud_daemons.evidence.conditional_put import probe
from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    close_thread_connections,
    postgres_threadlocal_connection,
)
from fraud_daemons.runtime.database import Database
from fraud_daemons.supervision.deployment import OBJECTSTORE, POSTGRES, Deployment
from fraud_daemons.supervision.substrate.doors import loopback_door, postgres_door

CONNECTIONS_PER_WORKER = 2  # its loop and its listener
_GATE_DSNS = ("IG_ADMISSION_DSN", "DF_REPLAY_DSN", PLATFORM_DSN)  # what a request may read and write

SUBSTRATE_DOWN = "substrate is down"


def databases(deployment: Deployment) -> Iterator[Finding]:
    """Every explicit DSN with one login each, then what the platform's database lacks."""
    profile = deployment.profile
    malformed = bootstrap.dsn_problems(profile)
    for problem in malformed:
        name, _, said = problem.partition(": ")
        yield wrong(name, said)
    told = {problem.partition(": ")[0] for problem in malformed}
    try:
        for name, dsn in profile.dsns.items():
            if name not in told:
                yield _login(name, dsn)
        if POSTGRES in deployment.services and postgres_door(deployment.run_dir) is not None:
            for what in ("migrations", "topics"):
                yield not_checked(what, SUBSTRATE_DOWN)
        elif malformed:
            yield not_checked("migrations and topics", "the DSN names come first")
        else:
            yield from _schemas(profile)
    finally:
        close_thread_connections()


def connections(deployment: Deployment) -> Iterator[Finding]:
    """The sum of all connections and the reserve against what the server allows."""
    profile = deployment.profile
    get, dsns = profile.get, profile.dsns
    workers, threads = len(deployment.workers()), get("gate.threads")
    per_thread = len({name if name in dsns else PLATFORM_DSN for name in _GATE_DSNS})
    reserve = get("database.connections_reserve")
    needed = workers * CONNECTIONS_PER_WORKER + threads * per_thread + reserve
    allowed, setting = get("database.connections_max"), "database.connections_max"
    if not profile.embedded_postgres:
        allowed, setting = _allowed(profile) or allowed, "max_connections of your server"
    what = (
        f"connections: {workers} workers x {CONNECTIONS_PER_WORKER} + {threads} gate threads x {per_thread}"
        f" + reserve {reserve} = {needed} of {allowed}"
    )
    yield ok(what) if needed < allowed else wrong(what, f"set {setting} above {needed}, or fewer gate.threads")


def bucket(deployment: Deployment) -> Iterator[Finding]:
    """The evidence bucket as the workers see it: reachable, and a conditional put of the same key twice."""
    profile = deployment.profile
    what = f"bucket {profile.get('objectstore.bucket')}: put, put again, get"
    if OBJECTSTORE in deployment.services:
        from fraud_daemons.config.ports import SETTING_OF, read_ports

        port = profile.get(SETTING_OF["objectstore_port"]) or read_ports(profile.run_dir).get("objectstore_port")
        if not port or loopback_door(port) is not None:
            yield not_checked(what, SUBSTRATE_DOWN)
            return
    try:
        said = probe(bootstrap.evidence_store(profile))
    except PlatformError as fault:
        yield wrong(what, str(fault))
    else:
        yield wrong(what, said) if said else ok(what)


def _login(name: str, dsn: str) -> Finding:
    try:
        with postgres_threadlocal_connection(DsnSource(name, lambda: dsn)) as connection:
            connection.execute("select 1")
    except PlatformError as error:
        return wrong(name, str(error))
    return ok(f"{name}: login")


def _schemas(profile: Profile) -> Iterator[Finding]:
    """Migrations of every server that a DSN name leads to, and topics."""
    lacking = False
    for server in bootstrap.servers(profile):
        what = "migrations" if server.name == PLATFORM_DSN else f"migrations at {server.name}"
        try:
            with bootstrap.owner_database(profile, "check", server.name).scope() as connection:
                pending = bootstrap.pending(connection, schemas=server.schemas)
        except PlatformError as fault:
            absent = _absent(profile, fault) if server.name == PLATFORM_DSN else None
            yield absent or wrong(what, str(fault))
            return
        lacking = lacking or bool(pending)
        yield ok(
            f"{what}: {len(pending)} to be applied by platform up, from {pending[0]} to {pending[-1]}"
            if pending
            else f"{what}: none pending, none unknown"
        )
    if lacking:
        yield not_checked("topics", "migrations come first; platform up makes both")
        return
    yield _topics(bootstrap.owner_database(profile, "check", EVENT_BUS_DSN))


def _absent(profile: Profile, fault: PlatformError) -> Finding | None:
    """A server of ours whose database is not made yet: a first start that was cut short."""
    if profile.embedded_postgres and isinstance(fault, FatalFault) and "3D000" in str(fault):
        return not_checked("migrations and topics", "the database is not made yet; platform up makes it")
    return None


def _topics(database: Database) -> Finding:
    with database.scope() as connection:
        present = bootstrap.operator_bus(database).partitions(connection)
    missing = [topic for topic in bootstrap.TOPICS if topic not in present]
    what = f"topics: {len(bootstrap.TOPICS)} wanted"
    return wrong(what, f"{', '.join(missing)} are missing; platform up makes them") if missing else ok(what)


def _allowed(profile: Profile) -> int | None:
    """What an external server leaves for us; None when it cannot be asked, which is a finding of its own."""
    try:
        options = ConnectOptions(application_name="platform/check")
        source = DsnSource(PLATFORM_DSN, lambda: profile.dsns[PLATFORM_DSN])
        with postgres_threadlocal_connection(source, options) as connection:
            row = connection.execute(
                "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            ).fetchone()
    except PlatformError:
        return None
    finally:
        close_thread_connections()
    return int(row[0]) if row else None
