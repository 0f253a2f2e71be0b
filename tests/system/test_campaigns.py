"""Campaigns: many faults under a stream, each round compared with an undisturbed one. `make faults` runs larger ones."""

from __future__ import annotations

import pytest

from tests.system.platform_under_test import PlatformUnderTest

FAULTS = 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", ["ordinary", "network"])
def test_a_campaign_loses_and_repeats_nothing(platform: PlatformUnderTest, where: str) -> None:
    """Faults of every kind, dealt by a seed: 0 missing, 0 surplus, equal digests, all ready again each time."""
    words = ["drill", "campaign", "--faults", str(FAULTS), "--round-transactions", "2000", "--seed", "11"]
    document = platform.say(*words, *(["--network"] if where == "network" else []), codes=(0, 1), timeout=1700)
    assert document["verdict"] == "PASS", [check for check in document["checks"] if not check["good"]]
    assert document["faults_caused"] >= FAULTS
