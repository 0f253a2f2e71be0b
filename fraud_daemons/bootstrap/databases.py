"""Where each DSN name leads: the setting, else PLATFORM_DSN, else the embedded server; and under which role."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN, NAMES, PLATFORM_DSN, SCHEMA_OF, Server
from fraud_daemons.config.embedded import embedded_dsn
from fraud_daemons.config.profiles import Profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.postgres_runtime.provisioning import OPERATOR, READER_SCHEMAS, SERVICE_SCHEMAS
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.runtime.database import Database

DATABASE_NAME = "fraud_platform"
PLATFORM_SCHEMAS = ("control", *READER_SCHEMAS)
"""What stands where PLATFORM_DSN leads, beside the schemas of the names that lead there too."""


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
    return DsnSource(f"{_leader(profile, name)} as {role}", read)


def _leader(profile: Profile, name: str) -> str:
    """The first of the DSN names that are given what `name` is given; PLATFORM_DSN for one that is given nothing."""
    given = profile.dsns.get(name) or profile.dsns.get(PLATFORM_DSN)
    return next((other for other in NAMES if given and profile.dsns.get(other) == given), PLATFORM_DSN)


def database_for(
    profile: Profile,
    name: str,
    *,
    role: str,
    application_name: str,
    long_statements: bool = False,
    keeps_plans: bool = False,
) -> Database:
    """A database by DSN name, with the profile's timeouts; `long_statements` for whoever reads a whole run at once."""
    options = _options(profile, application_name=application_name, long_statements=long_statements)
    return Database(dsn_source(profile, name, role=role), replace(options, keeps_plans=keeps_plans))


def _options(profile: Profile, *, application_name: str, long_statements: bool) -> ConnectOptions:
    get, long = profile.get, "long_" if long_statements else ""
    # a scope may be as long as its one long statement; what comes on top of that is held too long
    scope_seconds_max = get("database.scope_seconds_max")
    if long_statements:
        scope_seconds_max += get("database.long_client_deadline_seconds")
    return ConnectOptions(
        application_name=application_name,
        connect_timeout=get("database.connect_timeout_seconds"),
        connects_per_second_max=get("database.connects_per_second_max"),
        statement_timeout=get(f"database.{long}statement_timeout_seconds"),
        client_deadline=get(f"database.{long}client_deadline_seconds"),
        lock_timeout=get("database.lock_timeout_seconds"),
        idle_in_transaction=get("database.idle_in_transaction_seconds"),
        age_max=get("database.connection_age_seconds_max"),
        scope_seconds_max=scope_seconds_max,
    )


def operator_database(profile: Profile, command: str, name: str = PLATFORM_DSN) -> Database:
    """What the commands use, by DSN name: reads everything, writes runs, pins and requests."""
    session = f"platform/{command}/{os.getpid()}"
    return database_for(profile, name, role=OPERATOR, application_name=session, long_statements=True)


def operator_bus(database: Database) -> PostgresBus:
    """The bus as the commands see it."""
    return PostgresBus(database.scope)


def servers(profile: Profile) -> tuple[Server, ...]:
    """Every database the profile's DSN names lead to, the one of PLATFORM_DSN first."""
    found: dict[tuple[tuple[str, Any], ...], tuple[str, list[str]]] = {}
    for name in NAMES:
        place = tuple(sorted(_place_of(profile, name).items()))
        _, schemas = found.setdefault(place, (name, []))
        schemas += PLATFORM_SCHEMAS if name == PLATFORM_DSN else (SCHEMA_OF[name],)
    return tuple(Server(name, (*dict.fromkeys(schemas), *SERVICE_SCHEMAS)) for name, schemas in found.values())


def owner_dsn(profile: Profile) -> tuple[str, str]:
    """The owner's DSN without its password, and the password: for tools that take a DSN in argv."""
    parts = conninfo_to_dict(owner(profile))
    password = str(parts.pop("password", "") or "")
    return make_conninfo("", **parts), password


def owner_database(profile: Profile, command: str, name: str = PLATFORM_DSN) -> Database:
    """A database as its owner: for `up` and `check`, never for a worker."""
    options = _options(profile, application_name=f"platform/{command}/{os.getpid()}", long_statements=True)
    return Database(DsnSource(f"{_leader(profile, name)} as owner", lambda: owner(profile, name)), options)


def connections_allowed(profile: Profile, command: str, name: str) -> int:
    """How many sessions the server at a DSN name leaves for us. Raises as a scope does when it cannot be asked."""
    with owner_database(profile, command, name).scope() as connection:
        row = connection.execute(load(__package__, "sql/connections_allowed.sql")).fetchone()
    return int(row[0]) if row else 0


def owner(profile: Profile, name: str = PLATFORM_DSN) -> str:
    """DSN of the owner: the name's or PLATFORM_DSN as given, or the embedded server's own."""
    password = read_secrets(profile.run_dir).get("postgres", {}).get("fp_owner", "")
    embedded = embedded_dsn(profile.run_dir, user="fp_owner", password=password, dbname=DATABASE_NAME)
    return profile.dsns.get(name) or profile.dsns.get(PLATFORM_DSN) or embedded


def dsn_problems(profile: Profile) -> list[str]:
    """What is wrong with the explicit DSNs before anybody connects. Never quotes one: they hold passwords."""
    problems, malformed = [], set()
    for name, dsn in profile.dsns.items():
        try:
            _place(dsn)
        except ConfigurationError:
            malformed.add(name)
            problems.append(f"{name}: not a libpq connection string or URL, such as postgresql://user:password@host/db")
    if not malformed & {PLATFORM_DSN, EVENT_BUS_DSN, IG_ADMISSION_DSN} and _place_of(
        profile, IG_ADMISSION_DSN
    ) != _place_of(profile, EVENT_BUS_DSN):
        moved = IG_ADMISSION_DSN if IG_ADMISSION_DSN in profile.dsns else EVENT_BUS_DSN
        problems.append(
            f"{moved}: {IG_ADMISSION_DSN} and {EVENT_BUS_DSN} must lead to one database: the gate admits and appends in"
            " one commit - give both the same, or neither"
        )
    return problems


def same_server(profile: Profile, name: str) -> bool:
    """Whether a DSN's tables stand on the bus's own server and database: then the outbox *is* the log."""
    return _place_of(profile, name) == _place_of(profile, EVENT_BUS_DSN)


def _place_of(profile: Profile, name: str) -> Mapping[str, Any]:
    return _place(profile.dsns.get(name) or profile.dsns.get(PLATFORM_DSN, ""))


def _place(dsn: str) -> Mapping[str, Any]:
    """Server and database of a DSN; {} for the embedded one."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # without its text and its cause: libpq quotes the string, with the password in it
        raise ConfigurationError(["a DSN is not a libpq connection string or URL"], source="database.dsns") from None
    return {key: value for key, value in parts.items() if key in ("host", "hostaddr", "port", "dbname")}
