"""Runs in front of every supervised process and becomes it: no child outlives its supervisor, none runs twice.

    launcher.py [--lock PATH] [--death-signal TERM|INT] [--unprivileged userns|nobody] -- COMMAND…

In this order: ask the kernel for a signal when the parent dies and make sure it has not died already; take the lock -
which survives exec, so the lock file is held exactly as long as the process and its forks live; give up root if asked,
and ask for the signal again, because a change of credentials clears it; exec.

It runs before every start, so it imports the standard library only and is started by its path, without site packages.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import signal
import sys
import time

EXIT_LOCKED = 75  # EX_TEMPFAIL: somebody else still runs; try again later
EXIT_CONFIGURATION = 78
LOCK_WAIT_SECONDS_MAX = 12.0  # longer than a drain of 10 s: an old copy that is leaving is waited for
LOCK_POLL_SECONDS = 0.02
PARENT_VARIABLE = "PLATFORM_SUPERVISOR_PID"

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534


def main(arguments: list[str]) -> None:
    """Prepare and exec; returns never. Exits 75 when the lock stays held, 78 when the command cannot be started."""
    options, command = _parse(arguments)
    os.umask(0o077)
    death_signal = signal.Signals[f"SIG{options.get('--death-signal', 'TERM')}"]
    _die_with_parent(death_signal)
    if "--lock" in options:
        _take_lock(options["--lock"])
    if "--unprivileged" in options:
        _drop_root(options["--unprivileged"])
        _die_with_parent(death_signal)
    try:
        os.execv(command[0], command)  # noqa: S606 - becoming the command is its purpose
    except OSError as error:
        _leave(EXIT_CONFIGURATION, f"cannot start {command[0]}: {error.strerror}")


def _parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    if "--" not in arguments or arguments[-1] == "--":
        _leave(
            EXIT_CONFIGURATION,
            "usage: launcher [--lock PATH] [--death-signal TERM|INT] [--unprivileged userns|nobody] -- COMMAND",
        )
    cut = arguments.index("--")
    names, values = arguments[:cut:2], arguments[1:cut:2]
    return dict(zip(names, values, strict=True)), arguments[cut + 1 :]


def _libc(call: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _drop_root(way: str) -> None:
    try:
        if way == "userns":
            _enter_user_namespace()
        else:
            user = pwd.getpwuid(_NOBODY)
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
    except OSError as error:
        _leave(EXIT_CONFIGURATION, f"cannot give up root by {way}: {error}")


def _enter_user_namespace() -> None:
    """Be `nobody` inside, the caller outside: no user to create, nothing to chown. As `unshare --user --map-user`."""
    uid, gid = os.geteuid(), os.getegid()
    _libc("unshare", _CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{_NOBODY} {uid} 1"), ("gid_map", f"{_NOBODY} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib would double the start time
            file.write(text)


def _die_with_parent(death_signal: signal.Signals) -> None:
    expected = int(os.environ.get(PARENT_VARIABLE) or os.getppid())
    _libc("prctl", _PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != expected:  # it died before the kernel was asked: nobody would tell us
        _leave(EXIT_LOCKED, f"the supervisor {expected} is gone; not starting")


def _take_lock(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_SECONDS_MAX
    told = False
    while not _locked(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        if not told:
            print(f"waiting for {path}, held by pid {holder}", file=sys.stderr, flush=True)
            told = True
        if time.monotonic() > deadline:
            _leave(
                EXIT_LOCKED,
                f"{path} is still held by pid {holder} after {LOCK_WAIT_SECONDS_MAX:g} s; not starting a second copy",
            )
        time.sleep(LOCK_POLL_SECONDS)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    os.set_inheritable(descriptor, True)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leave(code: int, message: str) -> None:
    print(f"launcher: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
