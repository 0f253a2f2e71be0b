"""Lives inside supervisord (rpcinterface plugin, pinned to 4.3.0): quick respawn, watchdog, incidents, an honest audit.

`watched` has what happens to one process, `restart_policy` when it is started again, `watchdog` who is silent, `incidents`
what is one cause behind many. Here they are put together: supervisord's loop sleeps up to 1 s between reaping and
respawning; a wake-up file descriptor and a shorter sleep make that a few milliseconds, and twice a second, in between,
every heartbeat file is looked at. It never connects to anything and never blocks: the same thread reaps every child.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor import events
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.states import SupervisorStates

from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.observability.heartbeat import HeartbeatFile
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.supervision.audit import AuditFile, newest_records
from fraud_daemons.supervision.deployment import ENGINE, SUBSTRATE, SUPERVISOR
from fraud_daemons.supervision.incidents import DATABASE, Incidents, Trouble
from fraud_daemons.supervision.last_words import LastWords
from fraud_daemons.supervision.restart_policy import DeathLimit, RestartPolicy
from fraud_daemons.supervision.watchdog import BeatSeen, Watchdog
from fraud_daemons.supervision.watched import Announcement, Watched

LOOK_SECONDS: Final = 0.5
SUBSTRATE_CAP_SECONDS: Final = 2.0  # everybody waits for it


@dataclass(frozen=True)
class Rules:
    """What the profile says about supervision, and where things are."""

    run_dir: Path
    watchdog_seconds: float
    limit: DeathLimit
    patience_seconds: float

    @classmethod
    def read(cls, settings: Mapping[str, str]) -> Rules:
        """From the texts of supervisord's configuration."""
        return cls(
            run_dir=Path(settings["run_dir"]),
            watchdog_seconds=float(settings["watchdog_seconds"]),
            limit=DeathLimit(int(settings["deaths_max"]), float(settings["deaths_window_seconds"])),
            patience_seconds=float(settings["patience_seconds"]),
        )

    def policy(self, pack: str) -> RestartPolicy:
        """A policy that has seen no death yet."""
        if pack == SUBSTRATE:
            return RestartPolicy(limit=None, cap_seconds=SUBSTRATE_CAP_SECONDS)
        return RestartPolicy(limit=self.limit)

    def watchdog(self, name: str, pack: str) -> Watchdog | None:
        if pack == SUBSTRATE:
            return None
        return Watchdog(BeatSeen(self.run_dir / "beats" / f"{name}.json"), self.watchdog_seconds)


class PlatformInterface:
    """The RPC methods of the namespace `platform`. Answers are JSON texts: XML-RPC knows neither null nor 64-bit numbers."""

    def __init__(self, supervisord: Any, *, audit: AuditFile, rules: Rules, clock: Clock) -> None:
        self._supervisord = supervisord
        self._audit = audit
        self._rules = rules
        self._clock = clock
        self._watched: dict[str, Watched] = {}
        self._incidents = Incidents(
            audit.append, clock=clock, patience_seconds=rules.patience_seconds, earlier=newest_records(rules.run_dir)
        )
        self._database_away: str | None = None
        self._looked_monotonic = clock.monotonic()
        self._beat = _own_beat(rules.run_dir, clock)
        self._beat.beat("starting")  # before anybody can ask: a tiny platform is ready within the first half second
        for name in supervisord.process_groups:
            self._watch_group(name)
        events.subscribe(events.ProcessGroupAddedEvent, lambda event: self._watch_group(event.group))
        events.subscribe(events.ProcessStateStoppingEvent, self._on_stopping)
        _wake_on_signals()
        self._sleep_no_longer_than_needed(supervisord.options.poller)

    def announce(self, action: str, operator: str, names: Sequence[str]) -> bool:
        """Tell who is about to `action` (start, stop, restart, resume, up, down) these processes, before it happens."""
        for name in names:
            if watched := self._watched.get(name):
                watched.announced = Announcement(operator, action, self._clock.monotonic())
        return True

    def stop(self, name: str) -> bool:
        """Send the stop signal and return; a process that waits for its respawn, or is held, stays stopped."""
        watched = self._watched.get(name)
        if watched:
            watched.stop()
        return watched is not None

    def snapshot(self) -> str:
        """Every process as JSON: state, pid, uptime, restarts, last death."""
        return json.dumps({"pid": os.getpid(), "processes": [w.snapshot() for w in self._watched.values()]})

    def _watch_group(self, group: str) -> None:
        for process in self._supervisord.process_groups[group].processes.values():
            name, crash_log = str(process.config.name), Path(process.config.stdout_logfile)
            self._watched[name] = Watched(
                process=process,
                pack=group,
                clock=self._clock,
                audit=self._audit,
                words=LastWords((crash_log, self._rules.run_dir / "logs" / f"{name}.log")),
                fresh_policy=lambda: self._rules.policy(group),
                watchdog=self._rules.watchdog(name, group),
                outage=lambda: self._database_away,
            )

    def _on_stopping(self, event: Any) -> None:
        if watched := self._watched.get(event.process.config.name):
            watched.stopping()

    def _look(self) -> None:
        """Twice a second: who is silent, who is in trouble; and the supervisor's own beat."""
        now = self._clock.monotonic()
        elapsed = now - self._looked_monotonic
        if elapsed < LOOK_SECONDS:
            return
        self._looked_monotonic = now
        leaving = self._supervisord.options.mood < SupervisorStates.RUNNING
        for watched in self._watched.values():
            watched.look(elapsed)
        conditions = {name: w.condition() for name, w in self._watched.items() if w.watchdog}
        away = (c.reason for c in conditions.values() if isinstance(c, Trouble) and c.waits and c.cause == DATABASE)
        self._database_away = next(away, None)
        self._incidents.look(conditions, last=leaving)
        held = sum(watched.held is not None for watched in self._watched.values())
        self._beat.beat("stopping" if leaving else "ready", detail={"held": held})

    def _look_or_complain(self) -> None:
        try:
            self._look()
        except Exception as error:  # a bug in looking must not end supervision; its log tells, once a look
            self._supervisord.options.logger.error("the look at the heartbeats failed: %(error)r", error=error)

    def _sleep_no_longer_than_needed(self, poller: Any) -> None:
        poll = poller.poll

        def poll_until_due(timeout: float) -> Any:
            self._look_or_complain()
            if self._supervisord.options.mood < SupervisorStates.RUNNING:
                return poll(timeout)  # shutting down: nobody is respawned
            due = [seconds for w in self._watched.values() if (seconds := w.seconds_to_respawn()) is not None]
            return poll(min([timeout, LOOK_SECONDS, *due]))

        poller.poll = poll_until_due


class WakeUp:
    """The reading end of a pipe into which Python writes on every signal, in supervisord's map of sockets."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        os.read(self._descriptor, 512)

    def handle_error(self) -> None:
        """Nothing to do: an empty pipe is no trouble."""


def make_plugin(supervisord: Any, audit: str, **settings: str) -> PlatformInterface:
    """Called by supervisord when it starts, with the settings of its configuration section."""
    os.environ["PLATFORM_SUPERVISOR_PID"] = str(os.getpid())  # the launcher checks that its parent is still this one
    logger = supervisord.options.logger
    file = AuditFile(Path(audit), complain=logger.error)
    return PlatformInterface(supervisord, audit=file, rules=Rules.read(settings), clock=SystemClock())


def _own_beat(run_dir: Path, clock: Clock) -> HeartbeatFile:
    """The watcher is watched too: `platform status` shows the age of this beat."""
    me = identity_of(os.getpid())
    if me is None:
        raise RuntimeError("this process is not in /proc")
    path = run_dir / "beats" / f"{SUPERVISOR}.json"
    return HeartbeatFile(path, worker=SUPERVISOR, pack=ENGINE, process=me, clock=clock, version="")


def _wake_on_signals() -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    asyncore.socket_map[reading] = WakeUp(reading)
