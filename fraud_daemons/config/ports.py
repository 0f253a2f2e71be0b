"""Ports for settings that say 0: chosen once, kept in `ports.json`, so that an address stays the same over restarts.

Chosen below the kernel's ephemeral range: an outgoing connection can never be given a port that a server will want. Nobody
keeps a chosen port free until it is bound: whoever finds it taken then chooses another (`another_port`), and clients read
the file again before they connect.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import ConfigurationError

FILE_NAME = "ports.json"
PORT_LOW = 10_240
PORT_HIGH = 65_535
GRPC_OFFSET = 10_000  # the object store opens port + 10,000 beside each of its ports
ATTEMPTS_MAX = 200

# name in ports.json -> setting that fixes it; the store's inner ports have none
SETTING_OF = {"gate_port": "gate.port", "console_port": "console.port", "objectstore_port": "objectstore.port"}


def chosen_port(profile: Profile, name: str) -> int:
    """The port `name` (`gate_port`, `objectstore_port`, …): what the profile says, else what was chosen at first start.

    Raises ConfigurationError when neither knows it, which means `platform up` has not run yet.
    """
    port = fixed_port(profile, name) or read_ports(profile.run_dir).get(name, 0)
    if not port:
        raise ConfigurationError([f"no port has been chosen for {name} yet; run: platform up"], source="ports")
    return port


def fixed_port(profile: Profile, name: str) -> int:
    """The port that the profile fixes for `name`; 0 where one is chosen. The console follows the gate unless it is told."""
    setting = SETTING_OF.get(name)
    port = int(profile.get(setting)) if setting else 0
    if port >= 0:
        return port
    gate = fixed_port(profile, "gate_port")
    return gate + 1 if 0 < gate < PORT_HIGH else 0


def read_ports(run_dir: Path) -> dict[str, int]:
    """The ports chosen for this run directory, {} before the first start."""
    try:
        content: dict[str, int] = json.loads((run_dir / FILE_NAME).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigurationError(
            [f"{run_dir / FILE_NAME} is not valid JSON: {error}; delete it"], source="ports"
        ) from error
    return content


def choose_ports(run_dir: Path, names: Sequence[str]) -> dict[str, int]:
    """Every port of `names`, choosing and keeping those that have none yet."""
    with _one_writer(run_dir):
        ports = read_ports(run_dir)
        missing = [name for name in names if name not in ports]
        for name in missing:
            ports[name] = free_port(taken=ports.values())
        if missing:
            _write(run_dir, ports)
    return ports


def release_ports(run_dir: Path, names: Sequence[str]) -> None:
    """Forget chosen ports that somebody else has taken meanwhile; `choose_ports` then finds others."""
    with _one_writer(run_dir):
        ports = read_ports(run_dir)
        kept = {name: port for name, port in ports.items() if name not in names}
        if kept != ports:
            _write(run_dir, kept)


def another_port(profile: Profile, name: str, *, taken: int) -> int | None:
    """Another port for `name` in place of the chosen one that somebody has `taken`, kept; None where the profile fixes it."""
    if fixed_port(profile, name):
        return None
    with _one_writer(profile.run_dir):
        ports = read_ports(profile.run_dir)
        if ports.get(name, taken) == taken:
            ports[name] = free_port(taken={*ports.values(), taken})
            _write(profile.run_dir, ports)
        return ports[name]


@contextmanager
def _one_writer(run_dir: Path) -> Iterator[None]:
    """Read, choose and write are one step: two services may find their ports taken at the same time."""
    lock = run_dir / "locks" / "ports.lock"
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(run_dir: Path, ports: Mapping[str, int]) -> None:
    temporary = run_dir / f"{FILE_NAME}.new"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(ports, file, indent=1, sort_keys=True)
    temporary.replace(run_dir / FILE_NAME)


def free_port(*, host: str = "127.0.0.1", taken: Iterable[int] = ()) -> int:
    """A port that is free now, with its gRPC twin. Random, so that two runs at once rarely meet."""
    avoid = set(taken)
    high = min(_ephemeral_low(), 65_536) - GRPC_OFFSET
    if high <= PORT_LOW:
        high = 65_536 - GRPC_OFFSET
    for _ in range(ATTEMPTS_MAX):
        port = random.randrange(PORT_LOW, high)  # noqa: S311 - not a secret
        if port not in avoid and is_free(port, host=host) and is_free(port + GRPC_OFFSET, host=host):
            return port
    raise ConfigurationError([f"no free port between {PORT_LOW} and {high} after {ATTEMPTS_MAX} tries"], source="ports")


def is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def port_holder(port: int) -> str | None:
    """Who listens on `port`, as "pid 4211 (python)"; None when it cannot be told."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path(f"/proc/net/{table}"), port)}
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _holds(entry / "fd", wanted):
            return f"pid {entry.name} ({_name(entry)})"
    return None


def _listening(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]


def _holds(folder: Path, wanted: set[str]) -> bool:
    try:
        return any(_target(path) in wanted for path in folder.iterdir())
    except OSError:  # another user's process, or one that just left
        return False


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile; the next may be the one
        return ""


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "gone"


def _ephemeral_low() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
