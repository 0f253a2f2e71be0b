"""The drills on a whole platform: a short slice in every run, all of them in the slow suite, and what turns a verdict red."""

from __future__ import annotations

import random
import signal

import pytest

from fraud_daemons.acceptance.drills.catalogue import DRILLS
from fraud_daemons.acceptance.drills.conductor import conduct, stage_for
from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.config.profiles import load_profile
from tests.system.platform_under_test import ROOT, PlatformUnderTest, wait_until

SEED = 20260210
SLICE = {"postgres-kill": 1.0, "worker-kill": 2.0, "lock-held": 1.5}
"""Name -> seconds of the drills that every test run has."""


def run_drill(platform: PlatformUnderTest, name: str, *words: str) -> None:
    """`platform drill NAME` on a platform that is ready; PASS, with every line of the verdict good."""
    wait_until(lambda: platform.status()["verdict"] == "running ready", seconds=60, what="all ready before the drill")
    document = platform.say("drill", name, "--seed", str(SEED), *words, codes=(0, 1, 4), timeout=600)
    if "cannot run here" in document.get("error", ""):
        pytest.skip(document["error"])  # it says what this machine lacks
    assert "error" not in document, document["error"]
    assert document["verdict"] == "PASS", [check for check in document["checks"] if not check["good"]]
    assert all(document["fired"][proof] for proof in DRILLS[name].proofs)


@pytest.mark.parametrize("name", SLICE)
def test_a_short_drill(platform: PlatformUnderTest, name: str) -> None:
    """A fault of a second or two while a world streams: proved by its counters, every equation holds, all ready again."""
    run_drill(platform, name, "--seconds", str(SLICE[name]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DRILLS)
def test_every_drill(platform: PlatformUnderTest, name: str) -> None:
    """Each drill at its own length."""
    run_drill(platform, name)


@pytest.mark.slow
def test_a_fault_that_never_fired_and_a_death_nobody_declared_are_red(platform: PlatformUnderTest) -> None:
    """A drill whose counter did not move, and that ends a worker it did not name as its victim, fails on both lines."""

    def act(stage: Stage) -> None:
        stage.signal(stage.workers()["case_trigger"], signal.SIGKILL)
        stage.rest(1.0)

    defect = Drill("defect", "claims a fault that it does not cause", act, proofs=("nothing_happened",), seconds=1.0)
    profile = load_profile("local_parity", root=ROOT, environment=platform.environment)
    stage = stage_for(profile, defect, seed=SEED, seconds=None, tell=lambda _: None)
    assert stage.dice.random() == random.Random(f"{SEED} defect").random()
    document = conduct(stage, defect, seed=SEED)
    red = {check["check"]: check["observed"] for check in document["checks"] if not check["good"]}
    assert document["verdict"] == "FAIL"
    assert red == {"fault_fired": "never: nothing_happened", "died_unasked": ["case_trigger"]}
