"""Where a drill takes place when an ordinary platform has no place for it: each is a platform of the drill's own.

Yields the profile for the drill's own looks and the tool with which it breaks things: a proxy, or a path.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fraud_daemons.acceptance.drills.drill import Tell
from fraud_daemons.acceptance.drills.own_instance import own_instance
from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.config.embedded import DATABASE_NAME
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode

LOGS_BYTES: Final = 16 * 1024 * 1024
MOUNT_SECONDS_MAX: Final = 10
FAKETIME_LIBRARY: Final = "*/faketime/libfaketimeMT.so.1"


@contextmanager
def behind_proxy(profile: Profile, tell: Tell) -> Iterator[tuple[Profile, Any]]:
    """Workers reach their database through a proxy; the profile leads past it."""
    with own_instance(profile, settings={}) as instance:
        port = instance.server.tcp_port
        with WireProxy(("127.0.0.1", port)) as proxy:
            direct = instance.server.dsn(DATABASE_NAME)
            instance.environment["PLATFORM_DSN"] = direct.replace(f"port='{port}'", f"port='{proxy.port}'")
            tell("a platform of the drill's own, behind a proxy: up")
            instance.must("up", "--timeout", "180")
            yield instance.profile, proxy
            proxy.pass_on()
            instance.call("down")


@contextmanager
def eager_trimming(profile: Profile, tell: Tell) -> Iterator[tuple[Profile, Any]]:
    """The bus keeps nothing longer than its readers and the archive need it."""
    eager = {"PLATFORM_TRIM_LOG_AGE_SECONDS": "0", "PLATFORM_TRIM_INTERVAL_SECONDS": "0.2"}
    with own_instance(profile, settings=eager) as instance:
        tell("a platform of the drill's own, its bus trimmed at once: up")
        instance.must("up", "--timeout", "180")
        yield instance.profile, None
        instance.call("down")


def lacking_for_small_logs() -> str | None:
    """What this machine lacks for a small file system, None when it has it."""
    return None if os.geteuid() == 0 else "root (it mounts a small tmpfs for the logs)"


@contextmanager
def small_logs(profile: Profile, tell: Tell) -> Iterator[tuple[Profile, Any]]:
    """The logs lie on a file system of 16 MiB; the tool is that folder."""
    with own_instance(profile, settings={}) as instance:
        folder = instance.profile.path("logs")
        folder.mkdir(mode=0o700, parents=True)
        _mount("mount", "-t", "tmpfs", "-o", f"size={LOGS_BYTES},mode=0700", "tmpfs", str(folder))
        try:
            tell("a platform of the drill's own, its logs on a small disk: up")
            instance.must("up", "--timeout", "180")
            yield instance.profile, folder
            instance.call("down")
        finally:
            _mount("umount", "-l", str(folder))


def _mount(*words: str) -> None:
    done = subprocess.run([*words], capture_output=True, text=True, timeout=MOUNT_SECONDS_MAX, check=False)
    if done.returncode:
        raise CommandError(f"drill: {' '.join(words)}: {done.stderr.strip()}", exit_code=ExitCode.UNKNOWN)


def lacking_for_faked_clock() -> str | None:
    """What this machine lacks to fake a clock, None when it has it."""
    return None if _faketime() else "libfaketime (Debian: apt-get install faketime)"


def _faketime() -> Path | None:
    return next(Path("/usr/lib").glob(FAKETIME_LIBRARY), None)


@contextmanager
def faked_clock(profile: Profile, tell: Tell) -> Iterator[tuple[Profile, Any]]:
    """Workers and supervisord believe a clock of their own; the machine's is never touched. The tool is the file that
    says by how many seconds theirs is ahead."""
    with own_instance(profile, settings={}) as instance:
        ahead = instance.profile.run_dir.parent / "ahead"
        ahead.write_text("+0")
        instance.environment.update(
            LD_PRELOAD=str(_faketime()),
            FAKETIME_TIMESTAMP_FILE=str(ahead),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1",
        )
        tell("a platform of the drill's own, with a clock of its own: up")
        instance.must("up", "--timeout", "180")
        yield instance.profile, ahead
        ahead.write_text("+0")
        instance.call("down")
