"""Talks to supervisord over its unix socket, with our own deadline: a frozen supervisord must not hang a command."""

from __future__ import annotations

import http.client
import json
import socket
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.supervision.death import Death

ANSWER_SECONDS_MAX = 3.0

_ALREADY_STARTED = 60  # supervisord's fault number


class SupervisorAbsent(CommandError):
    """Nobody listens on the socket: the platform is down."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the platform is not running: no supervisor answers at {path}; run: platform up",
            exit_code=ExitCode.NOT_RUNNING,
        )


class SupervisorSilent(CommandError):
    """Somebody listens and does not answer in time."""

    def __init__(self, path: Path) -> None:
        message = f"the supervisor at {path} gives no answer in {ANSWER_SECONDS_MAX:g} s; it may be frozen: platform down ends it, then platform up"
        super().__init__(message, exit_code=ExitCode.UNKNOWN)


@dataclass(frozen=True)
class SupervisedProcess:
    """One process as supervisord sees it; `state` is its word in lower case."""

    name: str
    pack: str
    state: str
    pid: int | None
    uptime_seconds: float | None
    restarts: int
    exit_code: int | None
    last_death: Death | None
    respawn_seconds: float | None
    spawn_error: str | None
    quick_deaths: int = 0
    """Deaths in a row at a young age."""
    held_reason: str | None = None
    """Too many deaths: why it is not started again."""

    @property
    def runs(self) -> bool:
        return self.pid is not None

    @property
    def held(self) -> bool:
        """It died too often, said that its configuration is wrong, or cannot be started at all."""
        return (
            self.state == "fatal"
            or self.held_reason is not None
            or (self.state == "exited" and self.exit_code == ExitCode.CONFIGURATION)
        )


@dataclass(frozen=True)
class Snapshot:
    """supervisord's pid and its processes by name."""

    pid: int
    processes: dict[str, SupervisedProcess]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS_MAX)
        self.sock.connect(str(self._path))


class SupervisorClient:
    """One supervisord. Every call raises SupervisorAbsent or SupervisorSilent instead of hanging."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path

    def snapshot(self) -> Snapshot:
        """All processes now."""
        document = json.loads(self._call("platform.snapshot"))
        processes = [_process(entry) for entry in document["processes"]]
        return Snapshot(pid=document["pid"], processes={process.name: process for process in processes})

    def announce(self, action: str, *, operator: str, names: Sequence[str]) -> None:
        """Say who is about to do what, for the audit; before `start` or `stop`."""
        self._call("platform.announce", action, operator, list(names))

    def start(self, process: SupervisedProcess) -> None:
        """Start it; harmless when it runs already. Raises CommandError when it cannot be started."""
        name = f"{process.pack}:{process.name}"
        try:
            self._call("supervisor.startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise CommandError(f"supervisord cannot start {name}: {fault.faultString}") from fault

    def stop(self, process: SupervisedProcess) -> None:
        """Send its stop signal and return at once; harmless when it is stopped already."""
        self._call("platform.stop", process.name)

    def shutdown(self) -> None:
        """Tell supervisord to stop what is left and leave."""
        self._call("supervisor.shutdown")

    def _call(self, method: str, *arguments: object) -> Any:
        body = xmlrpc.client.dumps(arguments, method)  # type: ignore[arg-type]
        connection = _UnixConnection(self._path)
        try:
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml", "Accept": "text/xml"})
            answer = connection.getresponse().read()
        except TimeoutError as error:
            raise SupervisorSilent(self._path) from error
        except (OSError, http.client.HTTPException) as error:
            raise SupervisorAbsent(self._path) from error
        finally:
            connection.close()
        (result,), _ = xmlrpc.client.loads(answer)
        return result


def _process(entry: dict[str, Any]) -> SupervisedProcess:
    death = entry.pop("last_death")
    return SupervisedProcess(**entry, last_death=Death(**death) if death else None)
