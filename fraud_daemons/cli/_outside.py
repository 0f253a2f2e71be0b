"""The parts of the substrate that a profile brings itself: does each do its job, or why not.

A PostgreSQL takes a login, answers and has room for our sessions; an object store honours a real put and get in the evidence bucket, below
`_check/`. What no waiting can heal - a wrong password, a wrong key, a bucket that is not there - is a ConfigurationError.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fraud_daemons import bootstrap
from fraud_daemons.config.connection_budget import ConnectionBudget
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import ConfigurationError, FatalFault, TransientFault
from fraud_daemons.evidence.conditional_put import probe
from fraud_daemons.evidence.s3 import StoreRefusal

_CREDENTIAL_REFUSED = "postgres: 28"


def outside(profile: Profile, budget: ConnectionBudget) -> dict[str, Callable[[], str | None]]:
    """Name -> its refusal, for what is not embedded: None when it serves, else what it said, in one line."""
    parts: dict[str, Callable[[], str | None]] = {}
    if not profile.embedded_postgres:
        parts["postgres"] = partial(_postgres_refusal, profile, PLATFORM_DSN, budget)
    if not bootstrap.dsn_problems(profile):  # else `up` says so where it provisions
        for server in bootstrap.servers(profile):
            if server.name != PLATFORM_DSN:
                parts[f"postgres at {server.name}"] = partial(_postgres_refusal, profile, server.name, budget)
    if not profile.embedded_objectstore:
        parts["objectstore"] = lambda: _store_refusal(profile)
    return parts


def _postgres_refusal(profile: Profile, name: str, budget: ConnectionBudget) -> str | None:
    try:
        allowed = bootstrap.connections_allowed(profile, "up", name)
    except FatalFault as fault:
        raise _wrong(profile, f"{name}: {fault}") from fault
    except TransientFault as fault:
        if fault.reason.startswith(_CREDENTIAL_REFUSED):
            raise _wrong(profile, f"{name}: {fault}; give the right user and password") from fault
        return str(fault)
    if problem := budget.problem(allowed, f"max_connections of the server at {name}"):
        raise _wrong(profile, problem)
    return None


def _store_refusal(profile: Profile) -> str | None:
    try:
        said = probe(bootstrap.evidence_store(profile))
    except StoreRefusal as fault:
        advice = "see objectstore.bucket, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise _wrong(profile, f"objectstore.endpoint: {fault}; {advice}") from fault
    except FatalFault as fault:
        raise _wrong(profile, f"objectstore.endpoint: {fault}") from fault
    except TransientFault as fault:
        return str(fault)
    if said:
        raise _wrong(profile, f"objectstore.endpoint: {said}")
    return None


def _wrong(profile: Profile, problem: str) -> ConfigurationError:
    return ConfigurationError([problem], source=f"profile {profile.name}")
