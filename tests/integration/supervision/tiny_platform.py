"""A real supervisord over two packs of tiny worker processes, in a folder of its own, for the tests of supervision."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fraud_daemons.config.packs import Pack
from fraud_daemons.config.profiles import Profile, load_profile
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat
from fraud_daemons.observability.process_identity import start_ticks
from fraud_daemons.status.picture import WorkerPicture
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.client import SupervisorClient
from fraud_daemons.supervision.deployment import Deployment
from tests.line import ROOT

TINY_WORKER = Path(__file__).with_name("tiny_worker.py")
PACKS = (
    Pack("core", "Core", "", (), ("alpha", "beta"), 5.0),
    Pack("ingress", "Ingress", "", ("core",), ("door",), 5.0),
)
OUTSIDE = {"PLATFORM_DSN": "postgresql://elsewhere/x", "PLATFORM_OBJECTSTORE_ENDPOINT": "http://elsewhere"}


class Platform:
    """A deployment of tiny workers in a folder of its own."""

    def __init__(self, run_dir: Path, profile: Profile, *, packs: tuple[Pack, ...] = PACKS) -> None:
        self.run_dir = run_dir
        self.packs = packs
        self.deployment = Deployment(profile=profile, packs=packs, worker_command=self._command)
        self.client = SupervisorClient(profile.socket_path)

    def _command(self, worker: str) -> list[str]:
        pack = next((pack.name for pack in self.packs if worker in pack.workers), "more")
        return [sys.executable, str(TINY_WORKER), str(self.run_dir), pack, worker]

    def tell(self, worker: str, behaviour: str) -> None:
        """What the worker does from its next start on: see tiny_worker.py."""
        (self.run_dir / f"{worker}.behaviour").write_text(behaviour)

    def up(self, **options: Any) -> lifecycle.UpResult:
        return lifecycle.up(self.deployment, timeout_seconds=20.0, operator="tester", **options)

    def down(self) -> lifecycle.DownResult:
        return lifecycle.down(self.deployment, operator="tester")

    def process(self, worker: str) -> Any:
        return self.client.snapshot().processes[worker]

    def pid(self, worker: str) -> int:
        return self.process(worker).pid

    def audit(self, worker: str) -> list[dict[str, Any]]:
        lines = (self.run_dir / "events.ndjson").read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["worker"] == worker]

    def records(self, kind: str) -> list[dict[str, Any]]:
        """All audit records of a kind."""
        lines = (self.run_dir / "events.ndjson").read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]

    def beat(self, worker: str) -> Heartbeat | None:
        return read_heartbeat(self.run_dir / "beats" / f"{worker}.json")

    def worker(self, name: str) -> WorkerPicture:
        """A worker as `platform status` shows it."""
        return next(w for w in lifecycle.status(self.deployment).workers if w.worker == name)

    def doubles(self) -> str:
        """What the witnesses of the workers saw: a second copy beside a first one."""
        path = self.run_dir / "doubles"
        return path.read_text() if path.exists() else ""

    def copies(self, worker: str) -> list[int]:
        """Pids of every living copy of a worker, supervised or not."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if (
                    str(TINY_WORKER).encode() in words
                    and str(self.run_dir).encode() in words
                    and worker.encode() in words
                ):
                    found.append(int(entry.name))
        return [pid for pid in found if start_ticks(pid) is not None]


QUICK_TIMERS = {
    "PLATFORM_DATABASE_CONNECT_TIMEOUT_SECONDS": "0.5",
    "PLATFORM_DATABASE_LOCK_TIMEOUT_SECONDS": "0.8",
    "PLATFORM_DATABASE_IDLE_IN_TRANSACTION_SECONDS": "1",
    "PLATFORM_DATABASE_STATEMENT_TIMEOUT_SECONDS": "1",
    "PLATFORM_DATABASE_CLIENT_DEADLINE_SECONDS": "1.5",
    "PLATFORM_LOOP_BEAT_AGE_SECONDS_MAX": "2",
    "PLATFORM_LOOP_WATCHDOG_SECONDS": "3",
    "PLATFORM_SUPERVISION_DEATHS_MAX": "3",
    "PLATFORM_SUPERVISION_PATIENCE_SECONDS": "2",
}
"""In their order, and short: what takes 30 s by default takes 3."""


def make_platform(run_dir: Path, *, packs: tuple[Pack, ...] = PACKS, **settings: str) -> Platform:
    """A platform whose PostgreSQL and object store are elsewhere, so that only the packs are supervised."""
    environment = {**OUTSIDE, "PLATFORM_PROFILE_RUN_DIR": str(run_dir), "PLATFORM_GATE_PORT": "0", **settings}
    return Platform(run_dir, load_profile("local_parity", root=ROOT, environment=environment), packs=packs)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited state did not come"
        time.sleep(0.002)
