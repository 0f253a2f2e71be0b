"""One whole platform for all system tests of a test process: own run directory, own ports, nothing left behind.

The tests share it because a platform takes ten seconds to come up and every fact here is about one that keeps running.
Each test begins its own run, so runs never mix. Test processes may run system tests side by side: each makes the fixtures of a
session or a module for itself, and two platforms share no port, no folder and no server.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.platform_under_test import PlatformUnderTest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are system tests, for `-m`."""
    for item in items:
        if "tests/system" in item.nodeid:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def platform() -> Iterator[PlatformUnderTest]:
    """A running platform; taken down afterwards, with a check that no process is left."""
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    under_test = PlatformUnderTest(folder / "run")
    try:
        under_test.up()
        # decisions are compared between runs: equal digests are promised under one posture
        under_test.say("posture", "pin", "NORMAL", "--reason", "runs are compared")
        yield under_test
        under_test.down()
        assert under_test.processes() == [], "down left processes behind"
    finally:
        under_test.kill_what_is_left()
        shutil.rmtree(folder, ignore_errors=True)
