"""What the gates share: the running platform, the fresh run, and what was noted before the first event.

Everything here is read from outside the workers: supervisor, heartbeat files, log files, the servers' own views.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Final

from fraud_daemons import bootstrap
from fraud_daemons.clock import Clock
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat
from fraud_daemons.observability.log_window import Mark, mark
from fraud_daemons.postgres_runtime import counters
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state import sessions
from fraud_daemons.state.sessions import ServerSessions
from fraud_daemons.status.picture import PlatformPicture
from fraud_daemons.supervision import overview
from fraud_daemons.supervision.audit import FILE_NAME
from fraud_daemons.supervision.deployment import Deployment

SETTLE_SECONDS_MAX: Final = 12.0
"""A server adds a session to its counter when that session has been idle for a moment, at the latest after 10 s."""
SETTLE_LOOK_SECONDS: Final = 0.5
STREAMING_SECONDS_MAX: Final = 3.0
"""For 80 events and for 800: a tenth of it on an idle machine of two cores."""
OWN_SESSIONS: Final = "platform/"

Servers = Mapping[str, ServerSessions]
"""One look at every server, by the name of its first DSN."""


@dataclass
class Scene:
    """One acceptance. `note` must be called before the first event; gates leave what later ones need in `servers`."""

    profile: Profile
    deployment: Deployment
    clock: Clock
    tell: Callable[[str], None]
    run: str
    world: str
    hold_seconds: float
    begun_at: datetime
    begun_monotonic: float
    streaming_seconds_max: float = STREAMING_SECONDS_MAX
    restarts: Mapping[str, int] = field(default_factory=dict)
    beats: Mapping[str, Heartbeat | None] = field(default_factory=dict)
    logs: Mapping[str, Mark] = field(default_factory=dict)
    servers: dict[str, Servers] = field(default_factory=dict)
    """Moment -> look: "begin", then the name of the gate after which it was taken."""
    own_sessions: dict[str, int] = field(default_factory=dict)
    """Moment -> how many sessions this very process had opened by then."""
    samples: int = 0
    """How often the activity views were asked during the hold."""

    def note(self) -> None:
        """Where everything stands before the first event."""
        self.note_servers("begin")
        self.restarts = {worker.worker: worker.restarts for worker in self.look().workers}
        self.beats = self.read_beats()
        self.logs = self.mark_logs()

    def look(self) -> PlatformPicture:
        """What `platform status` says now. Raises CommandError when no supervisor answers."""
        picture, running = overview.look(self.deployment, clock=self.clock)
        if not running:
            raise CommandError(
                "the platform is not running; start it with: platform up", exit_code=ExitCode.NOT_RUNNING
            )
        return picture

    def read_beats(self) -> dict[str, Heartbeat | None]:
        """Every worker's last beat."""
        return {worker: read_heartbeat(self.profile.path("beats", f"{worker}.json")) for worker in self.workers}

    def mark_logs(self) -> dict[str, Mark]:
        """Every log there is or should be, by its path below the run directory."""
        folder, run_dir = self.profile.path("logs"), self.deployment.run_dir
        paths = {folder / f"{worker}.log" for worker in self.workers}
        paths |= {path for path in folder.glob("*.log") if path.is_file()}
        paths |= {run_dir / FILE_NAME, *(run_dir / "postgres_logs").glob("*.json")}
        return {str(path.relative_to(run_dir)): mark(path) for path in sorted(paths)}

    @property
    def workers(self) -> tuple[str, ...]:
        """Every worker of the packs."""
        return self.deployment.workers()

    def look_at_servers(self) -> dict[str, ServerSessions]:
        """Sessions on every server, our own commands' left out of the list. Raises a PlatformError when one is away."""
        looks = {}
        for name, database in self._databases.items():
            with database.scope() as connection:
                seen = sessions.look(connection)
            mine = f"/{os.getpid()}"
            others = tuple(s for s in seen.sessions if not (s.name.startswith(OWN_SESSIONS) and s.name.endswith(mine)))
            looks[name] = replace(seen, sessions=others)
        return looks

    def settled_servers(self) -> dict[str, ServerSessions]:
        """The same, once the servers' counters have stopped moving."""
        deadline = self.clock.monotonic() + SETTLE_SECONDS_MAX
        before, now = None, self.look_at_servers()
        while (before is None or _counts(before) != _counts(now)) and self.clock.monotonic() < deadline:
            self.rest(SETTLE_LOOK_SECONDS)
            before, now = now, self.look_at_servers()
        return now

    def note_servers(self, moment: str) -> dict[str, ServerSessions]:
        """Keep how the servers stand at a moment, once they have stopped moving."""
        self.servers[moment] = looks = self.settled_servers()
        self.own_sessions[moment] = self.own_sessions_opened()
        return looks

    def own_sessions_opened(self) -> int:
        """Sessions that this very process opened so far."""
        return counters()["opened"]

    def rest(self, seconds: float) -> None:
        """Wait."""
        StopRequest().rest(seconds)

    def database(self, name: str) -> Database:
        """A database by DSN name, under the operator's role."""
        return self._database_of(name)

    @cached_property
    def _database_of(self) -> Callable[[str], Database]:
        return partial(bootstrap.operator_database, self.profile, "accept")

    @cached_property
    def _databases(self) -> dict[str, Database]:
        return {server.name: self._database_of(server.name) for server in bootstrap.servers(self.profile)}


def _counts(servers: Servers) -> list[tuple[int, int]]:
    return [(seen.opened, len(seen.sessions)) for seen in servers.values()]
