"""The running environment against its profile and packs, asked afresh."""

from __future__ import annotations

from collections.abc import Sequence

from fraud_daemons.acceptance.environment import environment_checks
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding, judged
from fraud_daemons.conformance.environment import Check, Verdict


def measure(scene: Scene) -> Finding:
    """Every check of `platform conformance`."""
    scene.tell("checking the environment")
    return judge(environment_checks(scene.profile))


def judge(checks: Sequence[Check]) -> Finding:
    """All pass; one that could not be asked is no PASS."""
    failing = [check for check in checks if check.verdict is not Verdict.PASS]
    wrong = [f"{check.check} {check.verdict}: {check.observed} (wanted: {check.expected})" for check in failing]
    return judged(
        expected="every check of the running environment passes",
        good=f"{len(checks)} of {len(checks)} checks pass",
        wrong=wrong or ([] if checks else ["nothing was checked"]),
        covered={"checks": len(checks), "remedies": {check.check: check.remedy for check in failing}},
        measured=bool(checks) and not all(check.verdict is Verdict.UNKNOWN for check in failing or checks),
    )
