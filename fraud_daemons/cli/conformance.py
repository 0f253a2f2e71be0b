"""platform conformance: the running environment against its profile and packs, asked afresh."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.conformance.environment import Check, Environment


_ROUNDS_MISSED_MAX = 6
"""How many rounds the worker may be late before its own findings are no news."""


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show the checks that pass as well.")
@invocation
def command(call: Invocation, *, everything: bool) -> int:
    """Ask servers, store, keys, policy and workers whether they are as profile and packs say. 0 = PASS, 1 = FAIL, 4 = not
    known."""
    from fraud_daemons.conformance.environment import Verdict, judged, worst
    from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorClient

    try:
        profile = call.load_profile()
    except ConfigurationError as error:  # what runs was told something else
        checks = [judged("profile", good=False, expected="a profile that can be read", observed="; ".join(error.problems),
                         remedy="correct it; platform check says more")]  # fmt: skip
    else:
        try:
            SupervisorClient(profile.socket_path).snapshot()
        except SupervisorAbsent as error:
            said = "conformance: the platform is not running; start it with: platform up"
            raise CommandError(said, exit_code=ExitCode.NOT_RUNNING) from error
        checks = _asked(profile)
    verdict = worst(checks)
    document = {"verdict": str(verdict), "checks": [asdict(check) for check in checks]}
    call.answer(document, text=_text(checks, document, everything=everything))
    return int({Verdict.PASS: ExitCode.GOOD, Verdict.FAIL: ExitCode.NO, Verdict.UNKNOWN: ExitCode.UNKNOWN}[verdict])


def _asked(profile: Profile) -> list[Check]:
    """A fresh round. What the running platform was told is what its own watcher knows: that check comes from there."""
    from fraud_daemons import bootstrap
    from fraud_daemons.config.secrets_file import read_secrets
    from fraud_daemons.conformance import on_platform
    from fraud_daemons.conformance.environment import Environment
    from fraud_daemons.conformance.rounds import SUBJECTS, checks_of
    from fraud_daemons.observability.code_version import code_version

    environment = Environment(
        profile=profile,
        servers=bootstrap.servers(profile),
        database_of=partial(bootstrap.operator_database, profile, "conformance"),
        make_store=partial(bootstrap.evidence_store, profile),
        read_secrets=partial(read_secrets, profile.run_dir),
        reload_profile=lambda: profile,
        code_version=code_version(),
        clock=SystemClock(),
    )
    fresh = [
        check for subject in SUBJECTS if subject is not on_platform.profile for check in checks_of(subject, environment)
    ]
    return [*_watched(profile, environment), *fresh]


def _watched(profile: Profile, environment: Environment) -> Iterator[Check]:
    """What the worker last found of the profile, and whether it still looks."""
    from fraud_daemons.conformance.environment import Check, Verdict, judged, unknown
    from fraud_daemons.state import conformance

    limit = _ROUNDS_MISSED_MAX * profile.get("conformance.interval_seconds") + 10
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


def _text(checks: list[Check], document: dict[str, Any], *, everything: bool) -> str:
    lines = []
    for check in checks:
        if check.verdict == "PASS":
            lines += [f"  ok       {check.check}: {check.observed}"] if everything else []
            continue
        lines.append(f"  {check.verdict:<7}  {check.check}")
        lines += [f"             expected  {check.expected}", f"             observed  {check.observed}"]
        lines.append(f"             remedy    {check.remedy}")
    passed = sum(check.verdict == "PASS" for check in checks)
    return "\n".join([*lines, f"verdict  {document['verdict']}: {passed} of {len(checks)} checks pass"])
