"""Waiting for a state under a deadline, and the lock by which two operator commands wait for each other."""

from __future__ import annotations

import fcntl
import getpass
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fraud_daemons.clock import Clock
from fraud_daemons.errors import CommandError, ExitCode

LOCK_SECONDS_MAX = 120.0
POLL_SECONDS = 0.05

Tell = Callable[[str], None]


def wait_until(condition: Callable[[], bool], deadline: float, clock: Clock) -> bool:
    """Wait for a state, not for time; False when the deadline came first."""
    pause = threading.Event()
    while not condition():
        if clock.monotonic() > deadline:
            return False
        clock.wait(POLL_SECONDS, pause)
    return True


@contextmanager
def one_at_a_time(run_dir: Path, clock: Clock) -> Iterator[None]:
    """Two commands that change things wait for each other."""
    path = run_dir / "operator.lock"
    with path.open("a+") as file:
        os.chmod(path, 0o600)  # noqa: PTH101 - the open file's mode whatever the umask was
        deadline = clock.monotonic() + LOCK_SECONDS_MAX

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not wait_until(taken, deadline, clock):
            holder = path.read_text().strip() or "unknown"
            message = f"another platform command (pid {holder}) has been at work for {LOCK_SECONDS_MAX:g} s; wait for it or end it"
            raise CommandError(message, exit_code=ExitCode.UNKNOWN)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def operator_name() -> str:
    """Who gives the command, for the audit: login name and terminal or program."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = f"uid {os.getuid()}"
    return f"{user}, pid {os.getpid()}"
