"""Asks the running environment afresh whether it is as profile and packs say: for `platform conformance` and for acceptance.

What the running platform was told at its start is what its own watcher knows, so that one check comes from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from fraud_daemons import bootstrap
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.profiles import Profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.conformance import on_platform
from fraud_daemons.conformance.environment import Check, Environment, Verdict, judged, unknown
from fraud_daemons.conformance.rounds import SUBJECTS, checks_of
from fraud_daemons.errors import PlatformError
from fraud_daemons.observability.code_version import code_version
from fraud_daemons.state import conformance
from fraud_daemons.supervision import overview
from fraud_daemons.supervision.deployment import deployment_of

ROUNDS_MISSED_MAX: Final = 6
"""How many rounds the worker may be late before its own findings are no news."""


def environment_checks(profile: Profile) -> list[Check]:
    """Every check, made now; the profile's own from the worker's last round, whose age is a check too."""
    environment = Environment(
        profile=profile,
        servers=bootstrap.servers(profile),
        database_of=partial(bootstrap.operator_database, profile, "conformance"),
        make_store=partial(bootstrap.evidence_store, profile),
        read_secrets=partial(read_secrets, profile.run_dir),
        reload_profile=lambda: profile,
        look_at_platform=partial(_status, profile),
        code_version=code_version(),
        clock=SystemClock(),
    )
    fresh = [
        check for subject in SUBJECTS if subject is not on_platform.profile for check in checks_of(subject, environment)
    ]
    return [*_watched(profile, environment), *fresh]


def _status(profile: Profile) -> Mapping[str, Any]:
    picture, _ = overview.look(deployment_of(profile), clock=SystemClock())
    return picture.to_json()


def _watched(profile: Profile, environment: Environment) -> Iterator[Check]:
    """What the worker last found of the profile, and whether it still looks."""
    limit = ROUNDS_MISSED_MAX * profile.get("conformance.interval_seconds") + 10
    remedy = "platform status -v environment_conformance"
    try:
        with environment.database_of(PLATFORM_DSN).scope() as connection:
            latest = conformance.latest(connection)
    except PlatformError as fault:
        yield unknown("watcher", expected="it has looked", why=str(fault), remedy="see the servers")
        return
    if latest is None:
        yield unknown("watcher", expected="it has looked", why="it never has", remedy=remedy)
        return
    age = (environment.clock.now() - latest["checked_at"]).total_seconds()
    yield judged(
        "watcher",
        good=age <= limit,
        expected=f"a round within {limit:.0f} s",
        observed=f"{age:.0f} s ago",
        remedy=remedy,
    )
    yield from (
        Check(**{**check, "verdict": Verdict(check["verdict"])})
        for check in latest["checks"]
        if check["check"] == "profile"
    )
