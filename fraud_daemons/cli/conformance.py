"""platform conformance: the running environment against its profile and packs, asked afresh."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.conformance.environment import Check


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show the checks that pass as well.")
@invocation
def command(call: Invocation, *, everything: bool) -> int:
    """Ask servers, store, keys, policy and workers whether they are as profile and packs say. 0 = PASS, 1 = FAIL, 4 = not
    known."""
    from fraud_daemons.acceptance.environment import environment_checks
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
        checks = environment_checks(profile)
    verdict = worst(checks)
    document = {"verdict": str(verdict), "checks": [asdict(check) for check in checks]}
    call.answer(document, text=_text(checks, document, everything=everything))
    return int({Verdict.PASS: ExitCode.GOOD, Verdict.FAIL: ExitCode.NO, Verdict.UNKNOWN: ExitCode.UNKNOWN}[verdict])


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
