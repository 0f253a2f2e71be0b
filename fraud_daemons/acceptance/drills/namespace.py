"""A network namespace for the time of a block: its own loopback, its own ports. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from fraud_daemons.errors import CommandError, ExitCode

IP_SECONDS_MAX = 10


def lacking() -> str | None:
    """What this machine lacks to make one; None when it can."""
    if os.geteuid() != 0:
        return "root (it makes a network namespace of its own)"
    if shutil.which("ip") is None:
        return "the command ip (Debian: apt-get install iproute2)"
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=IP_SECONDS_MAX, check=False)
    return f"network namespaces: {done.stderr.strip()}" if done.returncode else None


@contextmanager
def network_namespace(name: str) -> Iterator[list[str]]:
    """Yields the words to put before a command that shall run inside. Raises CommandError when the kernel says no."""
    _ip("netns", "add", name)
    try:
        _ip("netns", "exec", name, "ip", "link", "set", "lo", "up")
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=IP_SECONDS_MAX, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=IP_SECONDS_MAX, check=False)
    if done.returncode:
        said = done.stderr.strip()
        raise CommandError(f"drill: ip {' '.join(words)}: {said}", exit_code=ExitCode.UNKNOWN)
