"""The parts of the substrate that a profile brings itself: does each do its job, or why not.

A PostgreSQL takes a login and answers; an object store honours a real put and get in the evidence bucket, below
`_check/`. What no waiting can heal - a wrong password, a wrong key, a bucket that is not there - is a ConfigurationError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final

from fraud_daemons import bootstrap
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import ConfigurationError, FatalFault, TransientFault
from fraud_daemons.evidence.port import EvidenceStore, PutOutcome
from fraud_daemons.evidence.s3 import StoreRefusal

PROBE_KEY: Final = "_check/conditional_put"
PROBE_BODY: Final = b"written once by platform check and platform up\n"
_CREDENTIAL_REFUSED = "postgres: 28"


def outside(profile: Profile) -> dict[str, Callable[[], str | None]]:
    """Name -> its refusal, for what is not embedded: None when it serves, else what it said, in one line."""
    parts: dict[str, Callable[[], str | None]] = {}
    if not profile.embedded_postgres:
        parts["postgres"] = partial(_postgres_refusal, profile, PLATFORM_DSN)
    if not bootstrap.dsn_problems(profile):  # else `up` says so where it provisions
        for server in bootstrap.servers(profile):
            if server.name != PLATFORM_DSN:
                parts[f"postgres at {server.name}"] = partial(_postgres_refusal, profile, server.name)
    if not profile.embedded_objectstore:
        parts["objectstore"] = lambda: _store_refusal(profile)
    return parts


def probe(store: EvidenceStore) -> str | None:
    """None when a put is kept, a second put of the same key refused and the get true; else what went wrong.

    Raises what the store raises.
    """
    digest = hashlib.sha256(PROBE_BODY).hexdigest()
    store.put_once(PROBE_KEY, PROBE_BODY, sha256=digest)
    again = store.put_once(PROBE_KEY, PROBE_BODY, sha256=digest)
    if again is not PutOutcome.ALREADY_THERE:
        return "a conditional put (If-None-Match: *) overwrote an object; evidence would not be safe in this store"
    return None if store.get(PROBE_KEY) == PROBE_BODY else "a get did not give back what was put"


def _postgres_refusal(profile: Profile, name: str) -> str | None:
    try:
        with bootstrap.owner_database(profile, "up", name).scope() as connection:
            connection.execute("select 1")
    except FatalFault as fault:
        raise _wrong(profile, f"{name}: {fault}") from fault
    except TransientFault as fault:
        if fault.reason.startswith(_CREDENTIAL_REFUSED):
            raise _wrong(profile, f"{name}: {fault}; give the right user and password") from fault
        return str(fault)
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
