"""What the checks may ask, and what a check answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fraud_daemons.clock import Clock
from fraud_daemons.config.dsns import Server
from fraud_daemons.config.profiles import Profile
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.runtime.database import Database


class Verdict(StrEnum):
    """UNKNOWN = it could not be looked at; that is no PASS."""

    PASS = "PASS"  # noqa: S105 - a verdict
    UNKNOWN = "UNKNOWN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `remedy` is what to do when it is no PASS."""

    check: str
    verdict: Verdict
    expected: str
    observed: str
    remedy: str


@dataclass(frozen=True)
class Environment:
    """The running platform, as whoever checks it can reach it."""

    profile: Profile
    servers: Sequence[Server]
    database_of: Callable[[str], Database]
    """By DSN name, under a role that reads everything."""
    make_store: Callable[[], EvidenceStore]
    read_secrets: Callable[[], Mapping[str, Any]]
    reload_profile: Callable[[], Profile]
    look_at_platform: Callable[[], Mapping[str, Any]]
    """What `platform status --json` says now: which process of each worker supervision runs."""
    code_version: str
    clock: Clock


def worst(checks: Sequence[Check]) -> Verdict:
    """FAIL before UNKNOWN before PASS; nothing checked is UNKNOWN."""
    order = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS)
    return min((check.verdict for check in checks), key=order.index, default=Verdict.UNKNOWN)


def judged(name: str, *, good: bool, expected: str, observed: str, remedy: str) -> Check:
    """PASS or FAIL."""
    return Check(name, Verdict.PASS if good else Verdict.FAIL, expected, observed, "" if good else remedy)


def unknown(name: str, *, expected: str, why: str, remedy: str) -> Check:
    """It could not be looked at."""
    return Check(name, Verdict.UNKNOWN, expected, why, remedy)
