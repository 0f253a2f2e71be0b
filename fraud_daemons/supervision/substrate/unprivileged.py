"""How a server that refuses to run as root is run when we are root: in a user namespace, else as `nobody`.

An ordinary user runs it as itself. The namespace needs no user and no chown; where it is denied (docker's default
seccomp profile) the data is given to `nobody`, which must then be able to reach it: the run directory becomes 0711.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from fraud_daemons.errors import ConfigurationError
from fraud_daemons.supervision import launcher

Way = Literal["as_is", "userns", "nobody"]
PROBE_SECONDS_MAX = 10.0
_NOBODY = 65534


@cache
def way_down() -> Way:
    """The way that works here: `as_is` for an ordinary user, else `userns`, else `nobody`."""
    if os.geteuid() != 0:
        return "as_is"
    probe = launch_command(["/bin/true"], unprivileged="userns")
    done = subprocess.run(probe, capture_output=True, timeout=PROBE_SECONDS_MAX, check=False)
    return "userns" if done.returncode == 0 else "nobody"


def launch_command(
    command: Sequence[str], *, lock: Path | None = None, death_signal: str = "TERM", unprivileged: Way = "as_is"
) -> list[str]:
    """The command line that runs `command` behind the launcher."""
    # -I -S: no environment, no site packages; the launcher starts in a few milliseconds and cannot be redirected
    line = [sys.executable, "-I", "-S", launcher.__file__]
    if lock:
        line += ["--lock", str(lock)]
    if unprivileged != "as_is":
        line += ["--unprivileged", unprivileged]
    return [*line, "--death-signal", death_signal, "--", *command]


def hand_over(folders: Sequence[Path], *, binary: Path) -> None:
    """Make `folders` usable by the server's user. Raises ConfigurationError naming what it cannot reach."""
    if way_down() != "nobody":
        return
    for folder in folders:
        folder.parent.chmod(0o711)  # may be passed through, not listed
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, _NOBODY, _NOBODY)
    for path in (*folders, binary):
        if blocker := _blocker(path):
            problem = (
                "PostgreSQL refuses to run as root, user namespaces are denied here and the user nobody cannot enter"
                f" {blocker}; run as an ordinary user, or: chmod o+x {blocker}"
            )
            raise ConfigurationError([problem], source="substrate")


def _blocker(path: Path) -> Path | None:
    """The first folder above `path` that others may not enter."""
    return next(
        (p for p in reversed(path.parents) if p.stat().st_uid != _NOBODY and not p.stat().st_mode & 0o001), None
    )
