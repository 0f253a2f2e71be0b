"""A worker small enough for supervision tests, and a real one: it beats, drains on SIGTERM, and misbehaves on request.

tiny_worker.py RUN_DIR PACK WORKER      behaviour from RUN_DIR/WORKER.behaviour:
work | children (two of its own) | deaf (ignores SIGTERM) | crash (exit 1 at once) | misconfigured (exit 78)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from fraud_daemons.clock import SystemClock
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.process_identity import identity_of


def main(run_dir: Path, pack: str, worker: str) -> int:
    told = run_dir / f"{worker}.behaviour"
    behaviour = told.read_text() if told.exists() else "work"
    stop = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else lambda *_: stop.set())
    if behaviour == "crash":
        print(f"{worker}: there is no module x", flush=True)
        return 1
    if behaviour == "misconfigured":
        print(f"{worker}: setting x is wrong", flush=True)
        return 78
    if behaviour == "children":
        children = [subprocess.Popen(["/bin/sleep", "300"]) for _ in range(2)]
        (run_dir / f"{worker}.children").write_text(" ".join(str(child.pid) for child in children))
    print(f"{worker} is at work", flush=True)
    clock = SystemClock()
    path = run_dir / "beats" / f"{worker}.json"
    beat = HeartbeatFile(path, worker=worker, pack=pack, process=identity_of(os.getpid()), clock=clock, version="test")
    while not clock.wait(0.05, stop):
        beat.beat("ready")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
