"""Whether somebody takes connections at a service's door: cheap enough for every `platform status`, and no more than that."""

from __future__ import annotations

import socket
from pathlib import Path

from fraud_daemons.config.embedded import SOCKET_PORT, socket_folder

DOOR_SECONDS_MAX = 0.3


def postgres_door(run_dir: Path) -> str | None:
    """None when PostgreSQL's socket takes a connection, else why not."""
    return _knock(socket.AF_UNIX, str(socket_folder(run_dir) / f".s.PGSQL.{SOCKET_PORT}"))


def loopback_door(port: int) -> str | None:
    """None when a loopback port takes a connection, else why not."""
    return _knock(socket.AF_INET, ("127.0.0.1", port))


def _knock(family: socket.AddressFamily, address: str | tuple[str, int]) -> str | None:
    with socket.socket(family, socket.SOCK_STREAM) as door:
        door.settimeout(DOOR_SECONDS_MAX)
        try:
            door.connect(address)
        except TimeoutError:
            return "no answer"
        except (FileNotFoundError, ConnectionRefusedError):
            return "refused"
        except OSError as error:
            return str(error.strerror or error)
    return None
