"""Operators restart anything at any time, under a stream: nothing lost, nothing repeated, neighbours untouched."""

from __future__ import annotations

import json

from tests.system.platform_under_test import PlatformUnderTest
from tests.system.test_the_line import assert_every_equation_holds
from tests.system.test_whatever_is_killed import digests, streaming, undisturbed

PACK_DRAIN_SECONDS = 10.0
ROLLED = "case_labels"  # of all packs it would take a minute more


def test_restarts_of_every_worker_every_pack_and_all_twice_over(platform: PlatformUnderTest) -> None:
    """One pack the second time one worker after the other. Each restart leaves other packs' pids unchanged, is in the audit with its operator as cause, and nothing is missing
    or surplus in the end."""
    expected = undisturbed(platform)
    run = platform.new_run()
    packs = {pack["pack"]: [w["worker"] for w in pack["workers"]] for pack in platform.status()["packs"]}
    with streaming(platform, "--rate", "70"):
        for how in ((), ("--rolling",)):
            for pack, workers in packs.items():
                for target in (*workers, pack):
                    before = platform.workers()
                    platform.say("restart", target, *(how if target == ROLLED else ()))
                    after = platform.workers()
                    restarted = set(workers) if target == pack else {target}
                    for name, worker in after.items():
                        if name in restarted:
                            assert worker["pid"] != before[name]["pid"], f"{name} was not restarted"
                        elif name not in workers:
                            assert worker["pid"] == before[name]["pid"], (
                                f"restarting {target} touched {name} of another pack"
                            )
            platform.say("restart")
    assert_every_equation_holds(platform.report())
    assert digests(platform, run) == expected
    events = [json.loads(line) for line in (platform.run_dir / "events.ndjson").read_text().splitlines()]
    stops = [event for event in events if event.get("cause") == "operator" and event.get("kind") in ("exit", "stop")]
    for name in (worker for workers in packs.values() for worker in workers):
        mine = [event for event in stops if event["worker"] == name]
        assert len(mine) >= 6, f"the audit lacks restarts of {name}"
        assert not [event for event in mine if event.get("signal") == "SIGKILL"], f"{name} passed its drain deadline"
