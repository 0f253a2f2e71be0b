"""Chosen ports that a stranger takes while the gate and the console are down: both come up elsewhere, and are found there."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

from tests.system.platform_under_test import PlatformUnderTest
from tests.system.test_the_line import assert_every_equation_holds

SERVICES = {"ingestion_gate": "gate_port", "console": "console_port"}


def test_ports_taken_in_between_are_left_to_who_has_them(platform: PlatformUnderTest) -> None:
    """Stopped, their ports taken, started: ready on others that the file names; the producer, which kept running, and
    `platform console` find them, and the log of each says who held the old one."""
    platform.make_world("ports", 60)
    platform.new_run()
    before = json.loads((platform.run_dir / "ports.json").read_text())
    with ExitStack() as held:
        for worker, name in SERVICES.items():
            platform.say("stop", worker)
            held.enter_context(socket.create_server(("127.0.0.1", before[name])))
        for worker in SERVICES:
            platform.say("start", worker)
        after = json.loads((platform.run_dir / "ports.json").read_text())
        totals = platform.stream("ports", "--max-events-per-output", "40")
        link = platform.say("console")["address"]
    assert all(after[name] != before[name] for name in SERVICES.values())
    assert {name: port for name, port in after.items() if name not in SERVICES.values()} == {
        name: port for name, port in before.items() if name not in SERVICES.values()
    }
    assert totals["outputs"]["traffic"]["admitted"] == 40
    assert_every_equation_holds(platform.report())
    assert link == f"http://127.0.0.1:{after['console_port']}"
    for worker, name in SERVICES.items():
        lines = (platform.run_dir / "logs" / f"{worker}.log").read_text().splitlines()
        moved = [json.loads(line) for line in lines if '"port_moved"' in line]  # the last line may be half written
        assert [(record["taken"], record["port"]) for record in moved] == [(before[name], after[name])]
        assert "pytest" in moved[0]["holder"] or "python" in moved[0]["holder"]
