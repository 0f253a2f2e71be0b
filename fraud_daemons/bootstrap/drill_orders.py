"""Misbehaviour on order: what no signal alone can cause in a healthy worker, for drills and on marked profiles only.

A drill writes one word into `drills/<worker>.order` and sends SIGUSR1. It refuses to listen where the profile is not marked.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from fraud_daemons.config.profiles import Profile

SIGNAL = signal.SIGUSR1
GRANDCHILDREN = 3
GRANDCHILD_SECONDS = "600"
OUTPUT_BYTES_PER_SECOND = 10_000_000
OUTPUT_SECONDS_MAX = 20.0
LEAK_BYTES = 64 * 1024 * 1024

_kept: list[object] = []  # what was leaked or started stays referenced


def order_file(profile: Profile, worker: str) -> Path:
    """Where the order for a worker is written."""
    return profile.path("drills", f"{worker}.order")


def listen(profile: Profile, worker: str) -> None:
    """Take orders from now on; nothing happens on a profile that is not marked for drills."""
    if not profile.get("profile.drills"):
        return
    path = order_file(profile, worker)

    def obey(_number: int, _frame: FrameType | None) -> None:
        try:
            word = path.read_text().strip()
            path.unlink()
        except OSError:  # a signal without an order
            return
        ORDERS.get(word, lambda: None)()

    signal.signal(SIGNAL, obey)


def _wedge() -> None:
    """The work loop hangs here for ever, the other threads live on: SIGTERM sets its flag and nobody looks at it."""
    threading.Event().wait()


def _go_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _fork() -> None:
    sleep = ["sleep", GRANDCHILD_SECONDS]
    _kept.extend(subprocess.Popen(sleep, stdin=subprocess.DEVNULL) for _ in range(GRANDCHILDREN))


def _leak() -> None:
    _kept.append(bytearray(b"\x01") * LEAK_BYTES)


def _shout() -> None:
    """10 MB/s to stdout: into the crash log, by way of the supervisor's pipe."""
    line = "x" * 99_999 + "\n"
    done = threading.Event()

    def shout() -> None:
        for _ in range(int(OUTPUT_SECONDS_MAX * OUTPUT_BYTES_PER_SECOND / len(line))):
            sys.stdout.write(line)
            done.wait(len(line) / OUTPUT_BYTES_PER_SECOND)

    threading.Thread(target=shout, name="shout", daemon=True).start()


ORDERS: Mapping[str, Callable[[], None]] = {
    "wedge": _wedge, "deaf": _go_deaf, "fork": _fork, "leak": _leak, "shout": _shout,
}  # fmt: skip
