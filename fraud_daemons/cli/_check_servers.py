"""What `platform check` asks of running servers: logins, migrations, topics, the bucket and its conditional put.

A server of ours that is down is no finding: what needs it is "not checked". A server that the profile names is asked
whether the platform is up or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from fraud_daemons import bootstrap
from fraud_daemons.cli._finding import Finding, judged, not_checked, ok, wrong
from fraud_daemons.config.connection_budget import connection_budget
from fraud_daemons.config.dsns import EVENT_BUS_DSN, PLATFORM_DSN
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import FatalFault, PlatformError
from fraud_daemons.evidence.conditional_put import probe
from fraud_daemons.postgres_runtime.connector import (
    DsnSource,
    close_thread_connections,
    postgres_threadlocal_connection,
)
from fraud_daemons.runtime.database import Database
from fraud_daemons.supervision.deployment import OBJECTSTORE, POSTGRES, Deployment
from fraud_daemons.supervision.substrate.doors import loopback_door, postgres_door

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
    """The sum of all connections and the reserve against what each server allows."""
    profile = deployment.profile
    budget = connection_budget(profile, workers=len(deployment.workers()))
    if profile.embedded_postgres:
        allowed = profile.get("database.connections_max")
        yield judged(f"connections: {budget.sum_text(allowed)}", budget.remedy(allowed, "database.connections_max"))
    if bootstrap.dsn_problems(profile):
        return  # told by `databases`, which also tells of a server that cannot be asked
    for server in bootstrap.servers(profile):
        if server.name != PLATFORM_DSN or not profile.embedded_postgres:
            try:
                allowed = bootstrap.connections_allowed(profile, "check", server.name)
            except PlatformError:
                continue
            finally:
                close_thread_connections()
            setting = f"max_connections of the server at {server.name}"
            yield judged(f"connections at {server.name}: {budget.sum_text(allowed)}", budget.remedy(allowed, setting))


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
