"""A worker small enough for supervision tests, and a real one: it beats, drains on SIGTERM, and misbehaves on request.

tiny_worker.py RUN_DIR PACK WORKER      behaviour from RUN_DIR/WORKER.behaviour:
work | children (two of its own) | deaf (ignores SIGTERM) | crash (exit 1 at once) | misconfigured (exit 78)
slow (2 s to drain, as it says at once) | wedged (deaf, and beats no more after the first) | late (first beat after 5 s)
waiting (postgres: refused) | waiting_crash (the same, then exit 1) | logged_crash (says why in its own log only)
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from fraud_daemons.clock import SystemClock
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.process_identity import identity_of

DRAIN_SECONDS = 2.0
LATE_SECONDS = 5.0


def main(run_dir: Path, pack: str, worker: str) -> int:
    told = run_dir / f"{worker}.behaviour"
    behaviour = told.read_text() if told.exists() else "work"
    witness = _witness(run_dir, worker)
    stop = threading.Event()
    deaf = behaviour in ("deaf", "wedged")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: stop.set())
    if behaviour == "crash":
        print(f"{worker}: there is no module x", flush=True)
        return 1
    if behaviour == "logged_crash":
        with (run_dir / "logs" / f"{worker}.log").open("a") as log:
            log.write('{"event": "bug_met", "at": "now"}\n')
        return 70
    if behaviour == "misconfigured":
        print(f"{worker}: setting x is wrong", flush=True)
        return 78
    if behaviour == "children":
        children = [subprocess.Popen(["/bin/sleep", "300"]) for _ in range(2)]
        (run_dir / f"{worker}.children").write_text(" ".join(str(child.pid) for child in children))
    print(f"{worker} is at work", flush=True)
    clock = SystemClock()
    if behaviour == "late":
        clock.wait(LATE_SECONDS, stop)
    path = run_dir / "beats" / f"{worker}.json"
    beat = HeartbeatFile(path, worker=worker, pack=pack, process=identity_of(os.getpid()), clock=clock, version="test")
    while not clock.wait(0.05, stop):
        now = (
            told.read_text() if told.exists() else "work"
        )  # a worker that runs may be told to wait, or to be well again
        if now.startswith("waiting"):
            beat.beat("waiting", "postgres: refused")
            if now == "waiting_crash":
                return 1
        else:
            beat.beat("ready")
        if behaviour == "wedged":
            signal.sigwait([signal.SIGUSR1])
    if behaviour == "slow":
        beat.beat("stopping")
        clock.wait(DRAIN_SECONDS, threading.Event())
    os.close(witness)
    return 0


def _witness(run_dir: Path, worker: str) -> int:
    """A lock that nobody waits for: who does not get it saw another copy, and writes that down."""
    descriptor = os.open(run_dir / f"{worker}.witness", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with (run_dir / "doubles").open("a") as file:
            file.write(f"{worker} pid {os.getpid()}\n")
    return descriptor


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
