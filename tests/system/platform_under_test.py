"""The platform as an operator has it: the command, its JSON and exit codes, pids and signals. Nothing imported from it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).parent / "platform"
SHARED_DATA = ROOT.parent / "shared" / "data"
COMMAND_TIMEOUT_SECONDS = 280


class CommandFailed(AssertionError):
    """A command ended otherwise than expected; shows everything it said."""


class PlatformUnderTest:
    """One platform in its own run directory."""

    def __init__(self, run_dir: Path, *, environment: dict[str, str] | None = None) -> None:
        self.run_dir = run_dir
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PLATFORM", "PYTEST"))},
            "PLATFORM_PROFILE_RUN_DIR": str(run_dir),
            "PLATFORM_GATE_PORT": "0",
            **(environment or {}),
        }

    # --- commands
    def call(self, *words: str, timeout: float = COMMAND_TIMEOUT_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run `platform WORDS…` and return what it said, whatever its exit code."""
        return subprocess.run(
            [str(COMMAND), *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def say(self, *words: str, codes: tuple[int, ...] = (0,), timeout: float = COMMAND_TIMEOUT_SECONDS) -> Any:
        """Run `platform WORDS… --json`; the object it printed."""
        done = self.call(*words, "--json", timeout=timeout)
        if done.returncode not in codes:
            raise CommandFailed(
                f"platform {' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return json.loads(done.stdout)

    def up(self) -> Any:
        return self.say("up", "--timeout", "90")

    def down(self) -> Any:
        return self.say("down", "--timeout", "60")

    def status(self) -> Any:
        return self.say("status", codes=(0, 1))

    def new_run(self) -> str:
        """Begin a run; waits out the second when the last one began in this one."""
        for _ in range(20):
            done = self.call("run", "new", "--json")
            if done.returncode == 0:
                return str(json.loads(done.stdout)["platform_run_id"])
            time.sleep(0.2)
        raise CommandFailed(f"platform run new: {done.stdout} {done.stderr}")

    def make_world(self, name: str, transactions: int, *, seed: int = 7) -> None:
        self.say("world", "make", name, "--transactions", str(transactions), "--seed", str(seed))

    def stream(
        self, world: str, *words: str, codes: tuple[int, ...] = (0,), timeout: float = COMMAND_TIMEOUT_SECONDS
    ) -> Any:
        return self.say("stream", "--world", world, *words, codes=codes, timeout=timeout)

    def report(self, *, codes: tuple[int, ...] = (0,)) -> Any:
        return self.say("report", codes=codes)

    # --- facts
    def workers(self) -> dict[str, dict[str, Any]]:
        """Status of every worker by name."""
        return {worker["worker"]: worker for pack in self.status()["packs"] for worker in pack["workers"]}

    def pid(self, worker: str) -> int:
        return int(self.workers()[worker]["pid"])

    def gate_port(self) -> int:
        return int(json.loads((self.run_dir / "ports.json").read_text())["gate_port"])

    def secret(self, family: str, name: str) -> str:
        return str(json.loads((self.run_dir / "secrets.json").read_text())[family][name])

    def dsn(self) -> str:
        """The owner's DSN of the platform's database."""
        return f"host={self.run_dir}/pg port=5432 user=fp_owner password={self.secret('postgres', 'fp_owner')} dbname=fraud_platform"

    def processes(self) -> list[tuple[int, str]]:
        """(pid, command) of every live process that carries this run directory in its environment or command line."""
        found = []
        marker = str(self.run_dir).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if command and (marker in command or b"PLATFORM_RUN_DIR=" + marker in (entry / "environ").read_bytes()):
                    found.append((int(entry.name), command.replace(b"\0", b" ").decode()[:100]))
        return found

    # --- faults
    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def supervisord_pid(self) -> int:
        return int((self.run_dir / "supervisord.pid").read_text())

    def kill_what_is_left(self) -> None:
        for pid, _ in self.processes():
            self.kill(pid)


def wait_until(condition: Callable[[], Any], *, seconds: float, what: str, every: float = 0.1) -> Any:
    """Wait for a state, not for time: the first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(every)
    raise AssertionError(f"waited {seconds} s in vain for: {what}")
