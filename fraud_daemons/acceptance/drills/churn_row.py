"""One row of `connection-churn`, run inside the network namespace: the platform, the two gates, the hold, once a second a look.

Started as a process of its own (`python -m`, the plan on stdin, the row on stdout), because a namespace belongs to a process.
It judges nothing; `churn` does.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from fraud_daemons.acceptance.drills.own_instance import OwnInstance, own_instance
from fraud_daemons.acceptance.drills.witness import beats_of
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import PlatformError
from fraud_daemons.status.picture import READY, reason_text
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.audit import FILE_NAME
from fraud_daemons.supervision.deployment import deployment_of

LOOK_EVERY_SECONDS = 1.0
WORLD, WORLD_SEED, TRANSACTIONS = "churn", 20260210, 5000
GATES = (("gate_20", 20), ("gate_200", 200))
SYSTEM_WORDS = ("Cannot assign requested address", "Address already in use")
_TIME_WAIT = "06"
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_REUSE = Path("/proc/sys/net/ipv4/tcp_tw_reuse")


class Look:
    """Once a second: what the workers did, what the kernel keeps, which packs are ready. Figures only grow: a worker that
    began anew counts from 0 again, and what it had counted before stays in the sum."""

    def __init__(self, instance: OwnInstance, clock: Clock) -> None:
        self.samples: list[dict[str, Any]] = []
        self.left_ready: dict[str, dict[str, Any]] = {}
        """Pack -> when it was first seen not ready after it had been, and why; cleared by `begin`."""
        self._instance = instance
        self._deployment = deployment_of(instance.profile)
        self._clock = clock
        self._began = clock.monotonic()
        self._counted: dict[tuple[str, int], dict[str, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Look:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def now(self) -> float:
        return round(self._clock.monotonic() - self._began, 1)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_SECONDS):
            with suppress(PlatformError):  # between up and down nobody may answer yet
                self.take()

    def take(self) -> dict[str, Any]:
        """One look."""
        for beat in beats_of(self._instance.profile):
            self._counted[beat.worker, beat.pid] = dict(beat.connector)
        sums: Counter[str] = Counter()
        for figures in self._counted.values():
            sums.update(figures)
        packs = {pack.pack: pack for pack in lifecycle.status(self._deployment, clock=self._clock).packs}
        for name, pack in packs.items():
            if pack.status != READY:
                culprit = next((w for w in pack.workers if w.status != READY and w.reason), None)
                why = reason_text(culprit) if culprit else pack.status
                self.left_ready.setdefault(name, {"at": self.now, "status": pack.status, "reason": why})
        sample = {
            "at": self.now,
            "operations": sums["opened"] + sums["reused"],
            "connects": sums["opened"],
            "failures": sums["waited"],
            "time_wait": time_wait(self._instance.server.tcp_port),
            "packs_ready": sum(pack.status == READY for pack in packs.values()),
            "deaths": _deaths(self._instance),
        }
        self.samples.append(sample)
        return sample


def time_wait(port: int) -> int:
    """Sockets of this namespace in TIME_WAIT towards a local port: each keeps one of our ports for 60 s."""
    remote = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(row[2].endswith(remote) and row[3] == _TIME_WAIT for row in map(str.split, lines))


def _deaths(instance: OwnInstance) -> int:
    try:
        lines = (instance.profile.path(FILE_NAME)).read_text().splitlines()
    except OSError:
        return 0
    return sum('"kind": "exit"' in line and '"cause": "exit_code"' in line for line in lines)


def system_words(instance: OwnInstance) -> dict[str, int]:
    """Worker -> how often its crash log has the operating system's words for the address fault."""
    found: dict[str, int] = {}
    for path in sorted(instance.profile.path("logs").glob("*.crash.log*")):
        text = path.read_text(errors="replace")
        if count := sum(text.count(words) for words in SYSTEM_WORDS):
            worker = path.name.split(".")[0]
            found[worker] = found.get(worker, 0) + count
    return found


def run_row(plan: dict[str, Any]) -> dict[str, Any]:
    """The row's document: gates, marks, samples, who left `running ready` in the hold, words found, the report."""
    _PORT_RANGE.write_text(f"{plan['port_low']} {plan['port_low'] + plan['ports'] - 1}")
    _REUSE.write_text("0")
    clock = SystemClock()
    profile = load_profile(plan["profile"], root=Path(plan["root"]), environment={})
    settings = {
        "PLATFORM_INCIDENT_ASKED_BY": "connection-churn",
        "PLATFORM_INCIDENT_CONNECTOR": plan["connector"],
        "PLATFORM_INCIDENT_CONTAINMENT": "true" if plan["containment"] else "false",
    }
    with own_instance(profile, settings=settings) as instance:
        instance.must("world", "make", WORLD, "--transactions", str(TRANSACTIONS), "--seed", str(WORLD_SEED))
        with Look(instance, clock) as look:
            instance.must("up", "--timeout", "180")
            row: dict[str, Any] = {"marks": {"up": look.now}, "gates": {}}
            row["platform_run_id"] = instance.must("run", "new")["platform_run_id"]
            for gate, events in GATES:
                row["gates"][gate] = _gate(instance, events)
                row["marks"][gate] = look.now
            look.left_ready.clear()
            row["ready_before_hold"] = look.take()["packs_ready"]
            clock.wait(plan["hold_seconds"], threading.Event())
            row["ready_after_hold"] = look.take()["packs_ready"]
            row["marks"]["hold"] = look.now
            row["left_ready"] = dict(look.left_ready)
            row["system_words"] = system_words(instance)
            row["report"] = _report(instance)
        row["samples"] = look.samples
    return row


def _gate(instance: OwnInstance, events: int) -> dict[str, Any]:
    code, document = instance.call(
        "stream", "--world", WORLD, "--max-events-per-output", str(events), "--timeout", "120"
    )
    outputs = document.get("outputs", {})
    admitted = sum(tally["admitted"] for tally in outputs.values())
    good = code == 0 and admitted == 4 * events
    return {"expected": 4 * events, "observed": admitted, "verdict": "PASS" if good else "FAIL",
            "error": document.get("error")}  # fmt: skip


def _report(instance: OwnInstance) -> dict[str, Any]:
    code, document = instance.call("report", "--timeout", "30")
    lines = document.get("equations", [])
    return {
        "verdict": document.get("verdict", "none" if code else "PASS"),
        "equations": len(lines),
        "missing": sum(line["missing"] for line in lines),
        "surplus": sum(line["surplus"] for line in lines),
        "error": document.get("error"),
    }


if __name__ == "__main__":
    print(json.dumps(run_row(json.loads(sys.stdin.read()))))
