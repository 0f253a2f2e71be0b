"""The acceptance sequence: the gates in their order on a fresh run, then one evidence object and one verdict.

Every gate is taken whatever the one before said, so that one call shows all that is wrong. A gate that raises could not be
measured, and has failed. It mends nothing and starts nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from fraud_daemons import bootstrap
from fraud_daemons.acceptance.gates import GATES, Gate
from fraud_daemons.acceptance.gates.scene import STREAMING_SECONDS_MAX, Scene
from fraud_daemons.acceptance.gates.verdicts import FAIL, PASS, Finding, unmeasured
from fraud_daemons.acceptance.streaming import new_run
from fraud_daemons.clock import Clock, SystemClock, iso
from fraud_daemons.config.profiles import Profile
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.errors import CommandError, ExitCode, PlatformError
from fraud_daemons.evidence.keys import acceptance_key
from fraud_daemons.observability.code_version import code_version
from fraud_daemons.status.picture import READY
from fraud_daemons.supervision.deployment import Deployment
from fraud_daemons.worlds.generator import make_world

WORLD: Final = "acceptance"
WORLD_TRANSACTIONS: Final = 1_000
WORLD_SEED: Final = 1
SECOND: Final = 1.1
"""Run ids have a resolution of a second."""


def open_scene(
    profile: Profile,
    deployment: Deployment,
    *,
    hold_seconds: float,
    streaming_seconds_max: float = STREAMING_SECONDS_MAX,
    world: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Scene:
    """A fresh run on the running platform, with everything noted before its first event.

    Raises CommandError when the platform is not running, or not ready: nothing was begun then.
    """
    clock = clock or SystemClock()
    scene = Scene(
        profile, deployment, clock, tell, run="", world=world or "", hold_seconds=hold_seconds,
        begun_at=clock.now(), begun_monotonic=clock.monotonic(), streaming_seconds_max=streaming_seconds_max,
    )  # fmt: skip
    verdict = scene.look().verdict
    if verdict != READY:
        raise CommandError(
            f"accept: the platform is {verdict}, acceptance begins on one that is {READY}; see: platform status -v",
            exit_code=ExitCode.NO,
        )
    scene.world = world or _own_world(profile)
    scene.rest(SECOND)
    scene.run = new_run(profile, note="acceptance", clock=clock).platform_run_id
    scene.begun_at, scene.begun_monotonic = clock.now(), clock.monotonic()
    scene.note()
    return scene


def accept(scene: Scene, *, gates: Mapping[str, Gate] = GATES) -> tuple[dict[str, Any], ExitCode]:
    """Take every gate; the answer of `platform accept --json`, kept as evidence, and the exit code."""
    scene.tell(f"run {scene.run} of world {scene.world}")
    findings = {name: _taken(scene, name, gate) for name, gate in gates.items()}
    document = {
        "platform_run_id": scene.run,
        "gates": [{"gate": name, **asdict(finding)} for name, finding in findings.items()],
        "verdict": PASS if all(finding.verdict == PASS for finding in findings.values()) else FAIL,
        "world": scene.world,
        "hold_seconds": scene.hold_seconds,
        "begun_at": iso(scene.begun_at),
        "ended_at": iso(scene.clock.now()),
        "version": code_version(),
    }
    key, sha256 = _keep(scene, document)
    return {**document, "evidence": {"object_key": key, "sha256": sha256}}, _exit_code(findings)


def _taken(scene: Scene, name: str, gate: Gate) -> Finding:
    """One gate; what it raises is no answer."""
    try:
        finding = gate(scene)
    except PlatformError as fault:
        finding = unmeasured(f"{name} can be measured", str(fault))
    scene.tell(f"{finding.verdict}  {name}: {finding.observed}")
    return finding


def _keep(scene: Scene, document: dict[str, Any]) -> tuple[str, str]:
    """Put the document once. Raises a PlatformError when it cannot be kept: an acceptance without evidence is none."""
    body = canonical_json(document)
    key, sha256 = acceptance_key(platform_run_id=scene.run), hashlib.sha256(body).hexdigest()
    bootstrap.evidence_store(scene.profile).put_once(key, body, sha256=sha256)
    return key, sha256


def _exit_code(findings: Mapping[str, Finding]) -> ExitCode:
    """NO when a gate that was measured failed; UNKNOWN when all that is missing is a measurement."""
    failed = [finding for finding in findings.values() if finding.verdict != PASS]
    if not failed:
        return ExitCode.GOOD
    return ExitCode.NO if any(finding.measured for finding in failed) else ExitCode.UNKNOWN


def _own_world(profile: Profile) -> str:
    """A small seeded world, the same on every machine, made when it is not there."""
    make_world(
        profile.path("worlds"), name=WORLD, transactions=WORLD_TRANSACTIONS, seed=WORLD_SEED,
        currency=profile.get("decision.currency"),
    )  # fmt: skip
    return WORLD
