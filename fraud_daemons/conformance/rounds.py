"""One round: every check, each contained, so that one that fails to ask does not hide the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fraud_daemons.conformance import on_platform, on_servers
from fraud_daemons.conformance.environment import Check, Environment, unknown
from fraud_daemons.errors import PlatformError

Subject = Callable[[Environment], Iterator[Check]]

SUBJECTS: Final[tuple[Subject, ...]] = (
    on_platform.profile,
    on_servers.servers,
    on_servers.groups,
    on_platform.bucket,
    on_platform.policy,
    on_platform.gate_keys,
    on_platform.workers,
)


def checks_of(subject: Subject, environment: Environment) -> list[Check]:
    """What one subject finds; a fault of its own is UNKNOWN and named."""
    found: list[Check] = []
    try:
        found.extend(subject(environment))
    except PlatformError as fault:
        found.append(unknown(subject.__name__, expected="can be asked", why=str(fault), remedy="platform status -v"))
    return found


def one_round(environment: Environment) -> list[Check]:
    """Everything, in a fixed order."""
    return [check for subject in SUBJECTS for check in checks_of(subject, environment)]
