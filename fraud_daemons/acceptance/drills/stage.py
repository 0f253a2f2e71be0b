"""What a drill acts on: the processes, the database as its owner, the counters of what fired. It judges nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraud_daemons.bootstrap import owner_database
from fraud_daemons.clock import Clock
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.status.picture import PlatformPicture
from fraud_daemons.supervision import lifecycle
from fraud_daemons.supervision.deployment import Deployment

LOOK_EVERY_SECONDS = 0.05
GONE_SECONDS_MAX = 30.0
SERVES_SECONDS_MAX = 60.0
COMMAND_SECONDS_MAX = 180


@dataclass(frozen=True)
class Check:
    """One line of the verdict."""

    check: str
    expected: Any
    observed: Any
    good: bool


@dataclass
class Stage:
    """One drill's view of one running platform. `dice` is seeded: the same seed makes the same choices."""

    profile: Profile
    deployment: Deployment
    dice: random.Random
    seconds: float
    clock: Clock
    tell: Callable[[str], None]
    fired: Counter[str] = field(default_factory=Counter)
    """What happened, by name: the proofs."""
    faults: int = 0
    """How many single faults were caused: a kill, a freeze, an outage, a strike of the proxy."""
    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    """What the act itself found out."""
    tool: Any = None
    """With which it breaks things, where it runs a platform of its own (`grounds`)."""
    victims: set[str] = field(default_factory=set)
    """Workers that the drill ends itself; nobody else may die."""

    @property
    def operator(self) -> str:
        """How the audit names who did it."""
        return f"drill, pid {os.getpid()}"

    def rest(self, seconds: float | None = None) -> None:
        """Let time pass: the drill's own length unless told."""
        self.clock.wait(self.seconds if seconds is None else seconds, threading.Event())

    def wait_for(self, condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
        """The first true answer. Raises CommandError when it does not come."""
        deadline = self.clock.monotonic() + seconds
        while self.clock.monotonic() < deadline:
            if answer := condition():
                return answer
            self.rest(LOOK_EVERY_SECONDS)
        raise CommandError(f"drill: waited {seconds:g} s in vain for: {what}", exit_code=ExitCode.NO)

    # --- processes
    def picture(self) -> PlatformPicture:
        """What `platform status` shows."""
        return lifecycle.status(self.deployment, clock=self.clock)

    def workers(self) -> dict[str, int]:
        """Pids of the workers that run."""
        return {worker.worker: worker.pid for worker in self.picture().workers if worker.pid}

    def service_pid(self, name: str) -> int:
        """Pid of an embedded service. Raises CommandError when it does not run."""
        pid = next((s.pid for s in self.picture().substrate if s.service == name), None)
        if not pid:
            raise CommandError(f"drill: {name} does not run")
        return pid

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal and count it."""
        os.kill(pid, number)
        self.fired[f"{number.name.lower()}_sent"] += 1
        self.faults += number in (signal.SIGKILL, signal.SIGQUIT)

    def kill_service(self, name: str, *, serves: Callable[[], bool], rest_seconds: tuple[float, float]) -> None:
        """SIGKILL for an embedded service, as often as fits; each time until it serves again. Counts `server_gone`."""
        ends = self.clock.monotonic() + self.seconds
        while not self.fired["server_gone"] or self.clock.monotonic() < ends:
            pid = self.service_pid(name)
            self.signal(pid, signal.SIGKILL)
            self.await_gone(pid)
            self.fired["server_gone"] += 1
            self.wait_for(serves, seconds=SERVES_SECONDS_MAX, what=f"{name} to serve again")
            self.rest(self.dice.uniform(*rest_seconds))

    def await_gone(self, pid: int) -> None:
        """Wait until a process has left."""
        self.wait_for(lambda: state_of(pid) in (None, "Z"), seconds=GONE_SECONDS_MAX, what=f"pid {pid} to be gone")

    @contextmanager
    def frozen(self, pids: list[int]) -> Iterator[None]:
        """SIGSTOP for the block, SIGCONT after it whatever happens; counts those that were seen stopped."""
        try:
            for pid in pids:
                self.signal(pid, signal.SIGSTOP)
            self.rest(LOOK_EVERY_SECONDS)
            self.fired["seen_stopped"] += sum(state_of(pid) == "T" for pid in pids)
            self.faults += 1
            yield
        finally:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:  # ended meanwhile
                    pass

    def stop(self, *names: str) -> None:
        """An operator's stop of services or workers."""
        self.faults += 1
        lifecycle.stop(self.deployment, names, operator=self.operator)

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Stopped for the block, started after it whatever happens."""
        try:
            self.stop(name)
            yield
        finally:
            self.start(name)

    def start(self, *names: str) -> None:
        """An operator's start."""
        lifecycle.start(self.deployment, names, operator=self.operator)

    def command(self, *words: str) -> int:
        """`platform WORDS…` as an operator gives it; its exit code."""
        where = ["--profile", self.profile.name, "--root", str(self.profile.root), "--json"]
        command = [sys.executable, "-m", "fraud_daemons.cli.main", *words, *where]
        done = subprocess.run(
            command, env=os.environ.copy(), capture_output=True, timeout=COMMAND_SECONDS_MAX, check=False
        )
        return done.returncode

    # --- the database
    def owner(self) -> AbstractContextManager[Connection]:
        """One transaction as the owner of the database."""
        return owner_database(self.profile, "drill").scope()

    @contextmanager
    def owner_statements(self) -> Iterator[Connection]:
        """The owner without a transaction around, for ALTER SYSTEM and for waiting; never read only."""
        with self.owner() as connection:
            connection.autocommit = True
            try:
                connection.execute("set default_transaction_read_only = off")
                yield connection
            finally:
                if not connection.closed:
                    connection.autocommit = False

    def server_log_states(self) -> Counter[str]:
        """SQLSTATEs in the embedded server's own log, all of it; take the difference of two looks."""
        import orjson

        found: Counter[str] = Counter()
        for path in self.profile.path("postgres_logs").glob("*.json"):
            for line in path.read_bytes().splitlines():
                try:
                    found[orjson.loads(line).get("state_code", "")] += 1
                except ValueError:  # the line being written just now
                    continue
        return found


def state_of(pid: int) -> str | None:
    """The kernel's letter for a process (R, S, D, T, Z), None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def family_of(pid: int) -> list[int]:
    """A process and its children, the parent first: stopped in this order none is born in between."""
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == pid:
                children.append(int(entry.name))
    return [pid, *sorted(children)]
