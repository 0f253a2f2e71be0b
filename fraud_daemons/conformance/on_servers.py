"""What every PostgreSQL server is asked: is it there and durable, do the DSN groups hold together, are schemas, roles and
topics what the migrations and the profile made, does its clock agree with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Final

from fraud_daemons.config.dsns import EVENT_BUS_DSN, GROUPS, PLATFORM_DSN, Server
from fraud_daemons.config.topics import TOPICS
from fraud_daemons.conformance.environment import Check, Environment, judged, unknown
from fraud_daemons.errors import FatalFault, PlatformError
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.postgres_runtime.provisioning import STATE_SCHEMAS, pending_migrations, role_of
from fraud_daemons.state import catalogue, environment

CLOCK_SECONDS_MAX: Final = 2.0
"""Between a server's clock and ours. Decisions use event time; waits, leases and observed times use the clock."""
NAMES_SHOWN: Final = 5
DURABILITY: Final = ("fsync", "synchronous_commit", "full_page_writes")


def servers(env: Environment) -> Iterator[Check]:
    """Every server, one after the other; one that is away is a FAIL and answers no further question."""
    for server in env.servers:
        expected = f"{server.name} answers"
        try:
            with env.database_of(server.name).scope() as connection:
                found = environment.server_facts(connection)
        except PlatformError as fault:
            yield judged(f"server {server.name}", good=False, expected=expected, observed=str(fault),
                         remedy="bring it back, or correct the DSN; the workers wait and go on by themselves")  # fmt: skip
            continue
        yield judged(f"server {server.name}", good=True, expected=expected, observed=f"PostgreSQL {found.version}",
                     remedy="")  # fmt: skip
        off = [f"{name} {found.settings[name]}" for name in DURABILITY if found.settings[name] != "on"]
        yield judged(
            f"durability {server.name}", good=not off, expected=", ".join(f"{name} on" for name in DURABILITY),
            observed=", ".join(off) or "all on",
            remedy="set it on and reload the server: a crash may lose what was promised",
        )  # fmt: skip
        apart = abs(found.epoch_seconds - env.clock.now().timestamp())
        yield judged(
            f"clock {server.name}", good=apart <= CLOCK_SECONDS_MAX, expected=f"within {CLOCK_SECONDS_MAX:g} s of ours",
            observed=f"{apart:.1f} s apart", remedy="let both machines keep time by the same source",
        )  # fmt: skip
        for check in (_migrations, _catalogue, _roles):
            yield from _of_server(env, server, check)
    yield from _of_server(env, Server(EVENT_BUS_DSN, ()), _topics)


def groups(env: Environment) -> Iterator[Check]:
    """Names that commit together lead to one database, whatever their DSNs say."""
    for group, names in GROUPS.items():
        expected = f"{', '.join(names)} lead to one database"
        remedy = f"give all of {group} the same DSN and restart the platform"
        places: dict[str, list[str]] = {}
        try:
            for name in names:
                with env.database_of(name).scope() as connection:
                    places.setdefault(environment.place(connection), []).append(name)
        except PlatformError as fault:
            yield unknown(f"dsn group {group}", expected=expected, why=str(fault), remedy="see the server's own check")
            continue
        observed = "; ".join(f"{', '.join(those)} at {place}" for place, those in places.items())
        yield judged(f"dsn group {group}", good=len(places) == 1, expected=expected, observed=observed, remedy=remedy)


Question = Callable[[Environment, Server, Connection], Iterator[Check]]


def _of_server(env: Environment, server: Server, ask: Question) -> Iterator[Check]:
    """A question to one server; a server that goes away meanwhile is UNKNOWN here and FAIL in its own check."""
    name = f"{ask.__name__.strip('_')} {server.name}"
    try:
        with env.database_of(server.name).scope() as connection:
            yield from list(ask(env, server, connection))
    except FatalFault as fault:
        yield judged(name, good=False, expected="can be asked", observed=str(fault), remedy="platform up")
    except PlatformError as fault:
        yield unknown(name, expected="can be asked", why=str(fault), remedy="see the server's own check")


def _migrations(_: Environment, server: Server, connection: Connection) -> Iterator[Check]:
    pending = pending_migrations(connection, schemas=server.schemas)
    yield judged(
        f"migrations {server.name}", good=not pending, expected="all of this code's migrations, none unknown",
        observed=_some(pending, "lacks") or "at head", remedy="platform down, then platform up: it migrates",
    )  # fmt: skip


def _catalogue(env: Environment, server: Server, connection: Connection) -> Iterator[Check]:
    """Columns, indexes, constraints and triggers as they were right after the migrations."""
    name, expected = f"catalogue {server.name}", "as the migrations made it"
    with env.database_of(PLATFORM_DSN).scope() if server.name != PLATFORM_DSN else nullcontext(connection) as platform:
        before = catalogue.kept(platform, server.name)
    if not before:
        yield unknown(
            name, expected=expected, why="nobody has noted what it looked like", remedy="platform up notes it"
        )
        return
    now = catalogue.catalogue(connection, server.schemas)
    gone = sorted(before.keys() - now.keys())
    changed = sorted(key for key in before.keys() & now.keys() if before[key] != now[key])
    said = [text for text in (_some(gone, "gone:"), _some(changed, "changed:")) if text]
    first = (gone or changed or [""])[0]
    yield judged(
        name, good=not said, expected=f"{expected}: {len(before)} objects", observed="; ".join(said) or "the same",
        remedy=f"make it again: {first}: {before.get(first, '')}",
    )  # fmt: skip


def _roles(env: Environment, server: Server, connection: Connection) -> Iterator[Check]:
    """Every component's role exists and may write its own tables."""
    if env.profile.get("database.roles") != "create":
        return
    wanted = {role_of(schema): schema for schema in server.schemas if schema in STATE_SCHEMAS}
    lacking = environment.rights_lacking(connection, wanted)
    yield judged(
        f"roles {server.name}", good=not lacking, expected=f"{len(wanted)} roles, each with its own tables",
        observed=_some(lacking, "lacking:") or "all there", remedy="platform down, then platform up: it grants them",
    )  # fmt: skip


def _topics(env: Environment, _: Server, connection: Connection) -> Iterator[Check]:
    found = environment.partitions(connection)
    partitions = env.profile.get("bus.partitions")
    wrong = [f"{t} has {found.get(t, 0)}" for t in TOPICS if found.get(t, 0) != partitions]
    yield judged(
        "topics", good=not wrong, expected=f"{len(TOPICS)} topics of {partitions} partition(s)",
        observed=_some(wrong, "") or "all there", remedy="platform up makes a topic that is missing",
    )  # fmt: skip


def _some(names: tuple[str, ...] | list[str], word: str) -> str:
    """The first few of what is wrong; empty when nothing is."""
    if not names:
        return ""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{word} {', '.join(names[:NAMES_SHOWN])}{more}".strip()
