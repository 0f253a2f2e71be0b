"""The incident, reproduced and gone, as an operator sees it; needs root and iproute2 and says so otherwise."""

from __future__ import annotations

import pytest

from fraud_daemons.acceptance.drills import namespace
from tests.system.platform_under_test import PlatformUnderTest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_old_policy_collapses_after_the_gates_and_ours_does_not(platform: PlatformUnderTest) -> None:
    """Four rows with the same packs and workers on the same ports: PASS, or `cannot run here` where it cannot."""
    lacking = namespace.lacking()
    if lacking:
        done = platform.call("drill", "connection-churn")
        assert done.returncode == 4
        assert "cannot run here" in done.stderr
        pytest.skip(f"needs {lacking}")
    document = platform.say("drill", "connection-churn", codes=(0, 1), timeout=1700)
    assert document["verdict"] == "PASS", [check for check in document["checks"] if not check["good"]]
