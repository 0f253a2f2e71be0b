"""Lives inside supervisord (rpcinterface plugin, pinned to 4.3.0): quick respawn, no grandchild left, an honest audit.

What supervisord lacks, added by wrapping three methods of each of its processes:
- `finish`: a child has gone. Kill what is left of its process group, judge the death, write the audit;
- `transition`: respawn at once after the first death, then after a jittered, growing, capped delay;
- `spawn`: write the audit of the start.
Its loop sleeps up to 1 s between reaping and respawning; a wake-up file descriptor and a shorter sleep make that a few
milliseconds. It never connects to anything and never blocks: the same thread reaps every child.

The policy for crash loops (sliding window, held, no counting while the database is away) has its place in `RestartPolicy`.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from supervisor import events
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.states import RUNNING_STATES, ProcessStates, SupervisorStates, getProcessStateDescription

from fraud_daemons.clock import Clock, SystemClock, iso
from fraud_daemons.errors import ExitCode
from fraud_daemons.supervision.audit import AuditFile
from fraud_daemons.supervision.deployment import SUBSTRATE

CRASH_TAIL_BYTES_MAX: Final = 4096
CRASH_TAIL_LINES_MAX: Final = 8
CAP_SECONDS: Final = 15.0
SUBSTRATE_CAP_SECONDS: Final = 2.0  # everybody waits for it
ANNOUNCEMENT_SECONDS_MAX: Final = 120.0  # an operator's word counts for the stop and start that follow it, not for ever


@dataclass(frozen=True)
class Death:
    """How a process ended. `cause` is operator, exit_code, signal, configuration, finished or shutdown."""

    cause: str
    exit_code: int | None
    signal: str | None
    uptime_seconds: float
    at: str


@dataclass
class RestartPolicy:
    """How long to wait before a respawn: not at all after the first quick death, then growing, capped, with jitter."""

    stable_seconds: float = 10.0  # who lived this long begins anew
    base_seconds: float = 0.25
    cap_seconds: float = CAP_SECONDS
    quick_deaths: int = 0

    def delay_after(self, uptime_seconds: float) -> float:
        """Seconds to wait after a death at this age."""
        self.quick_deaths = self.quick_deaths + 1 if uptime_seconds < self.stable_seconds else 0
        if self.quick_deaths <= 1:
            return 0.0
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(self.quick_deaths - 2, 10))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret; spreads a herd


@dataclass
class Announcement:
    """An operator's word before a stop or start: who, and which of `start`, `stop`, `restart`, `resume`, `up`, `down`."""

    operator: str
    action: str
    monotonic: float


@dataclass
class Watched:
    """Our record beside one of supervisord's processes, and the wrapped methods."""

    process: Any
    pack: str
    clock: Clock
    audit: AuditFile
    policy: RestartPolicy = field(init=False)
    announced: Announcement | None = None
    restarts: int = 0
    last_death: Death | None = None
    started_monotonic: float = 0.0
    stopping_monotonic: float | None = None
    respawn_monotonic: float = 0.0
    crash_log_offset: int = 0

    def __post_init__(self) -> None:
        self.policy = self._fresh_policy()
        self._spawn, self._finish, self._transition = self.process.spawn, self.process.finish, self.process.transition
        self.process.spawn, self.process.finish, self.process.transition = self.spawn, self.finish, self.transition

    @property
    def name(self) -> str:
        return str(self.process.config.name)

    def transition(self) -> None:
        """One turn of supervisord's loop for this process; a death is not followed by a spawn before its delay."""
        if self.process.state == ProcessStates.EXITED and self.clock.monotonic() < self.respawn_monotonic:
            return
        self._transition()
        if self.process.state == ProcessStates.STARTING:
            self._transition()  # startsecs is 0: no reason to be STARTING for another second

    def spawn(self) -> Any:
        """Start the process and write why."""
        unasked = self.process.state == ProcessStates.EXITED and self._word() is None
        self.started_monotonic = self.clock.monotonic()
        self.stopping_monotonic = None
        self.crash_log_offset = _size(self.process.config.stdout_logfile)
        pid = self._spawn()
        if pid:
            self.restarts += unasked
            self._audit_start(pid, unasked=unasked)
        return pid

    def finish(self, pid: int, status: int) -> None:
        """The process has gone: leave no child of it, judge its death, write it down."""
        _kill_group(pid)
        now = self.clock.monotonic()
        asked = bool(self.process.killing)
        death = self._judge(status, asked=asked, uptime=now - self.started_monotonic)
        self._finish(pid, status)
        self.last_death = death
        if not asked:
            self.respawn_monotonic = now + self.policy.delay_after(death.uptime_seconds)
        else:
            self.policy = self._fresh_policy()
        self._audit_end(pid, death, asked=asked, drained_at=now)
        self._forget_word()

    def stop(self) -> None:
        """An operator's stop, also for one that is dead and waits to be respawned or is held."""
        if self.process.state == ProcessStates.EXITED:
            self.process.change_state(ProcessStates.STOPPED)
            self._write("stop", cause="operator" if self._word() else "shutdown", pid=0, operator=self._operator())
            self._forget_word()
        elif self.process.state in RUNNING_STATES:
            self.process.stop()

    def stopping(self) -> None:
        """supervisord has sent the stop signal."""
        if self.stopping_monotonic is None:
            self.stopping_monotonic = self.clock.monotonic()

    def seconds_to_respawn(self) -> float | None:
        """Until the loop must look at this process again; None when only a signal can change it."""
        if self.process.state != ProcessStates.EXITED or self.process.exitstatus in self.process.config.exitcodes:
            return None
        return max(0.0, self.respawn_monotonic - self.clock.monotonic())

    def snapshot(self) -> dict[str, Any]:
        """What a client may know, as plain values."""
        process = self.process
        return {
            "name": self.name,
            "pack": self.pack,
            "state": getProcessStateDescription(process.state).lower(),
            "pid": process.pid or None,
            "uptime_seconds": self.clock.monotonic() - self.started_monotonic if process.pid else None,
            "restarts": self.restarts,
            "quick_deaths": self.policy.quick_deaths,
            "exit_code": self.last_death.exit_code if self.last_death and not process.pid else None,
            "last_death": asdict(self.last_death) if self.last_death else None,
            "respawn_seconds": self.seconds_to_respawn(),
            "spawn_error": process.spawnerr if process.state in (ProcessStates.BACKOFF, ProcessStates.FATAL) else None,
        }

    def _fresh_policy(self) -> RestartPolicy:
        return RestartPolicy(cap_seconds=SUBSTRATE_CAP_SECONDS if self.pack == SUBSTRATE else CAP_SECONDS)

    def _word(self) -> Announcement | None:
        word = self.announced
        fresh = word and self.clock.monotonic() - word.monotonic < ANNOUNCEMENT_SECONDS_MAX
        return word if fresh else None

    def _operator(self) -> str | None:
        word = self._word()
        return word.operator if word else None

    def _forget_word(self) -> None:
        """A stop ends what was announced; a restart's word also covers the start that follows."""
        if self.announced and self.announced.action != "restart":
            self.announced = None

    def _judge(self, status: int, *, asked: bool, uptime: float) -> Death:
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        killer = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None
        if asked:
            cause = "operator" if self._word() else "shutdown"
        elif killer:
            cause = "signal"
        else:
            cause = {ExitCode.GOOD.value: "finished", ExitCode.CONFIGURATION.value: "configuration"}.get(
                code or 0, "exit_code"
            )
        return Death(cause, code, killer, round(uptime, 3), iso(self.clock.now()))

    def _audit_start(self, pid: int, *, unasked: bool) -> None:
        word = self._word()
        if unasked and self.last_death:
            kind, cause = "restart", self.last_death.cause
        elif word and word.action == "restart":
            kind, cause = "restart", "operator"
        else:
            kind, cause = "start", "operator" if word else "unknown"
        self._write(
            kind, cause=cause, pid=pid, operator=word.operator if word else None, action=word.action if word else None
        )
        self.announced = None

    def _audit_end(self, pid: int, death: Death, *, asked: bool, drained_at: float) -> None:
        word = self._word()
        drain = (
            round(drained_at - self.stopping_monotonic, 3) if asked and self.stopping_monotonic is not None else None
        )
        self._write(
            "stop" if asked else "exit",
            cause=death.cause,
            pid=pid,
            exit_code=death.exit_code,
            signal=death.signal,
            uptime_seconds=death.uptime_seconds,
            drain_seconds=drain,
            drain_seconds_max=self.process.config.stopwaitsecs if asked else None,
            respawn_seconds=None
            if asked or self.seconds_to_respawn() is None
            else round(self.seconds_to_respawn() or 0.0, 3),
            last_log_lines=_tail(self.process.config.stdout_logfile, offset=self.crash_log_offset),
            operator=self._operator() if asked else None,
            action=word.action if word and asked else None,
        )

    def _write(self, kind: str, *, cause: str, pid: int, **facts: Any) -> None:
        named = {
            "at": iso(self.clock.now()),
            "worker": self.name,
            "pack": self.pack,
            "kind": kind,
            "cause": cause,
            "pid": pid,
        }
        self.audit.append({**named, "restarts": self.restarts, **{k: v for k, v in facts.items() if v is not None}})


class PlatformInterface:
    """The RPC methods of the namespace `platform`. Answers are JSON texts: XML-RPC knows neither null nor 64-bit numbers."""

    def __init__(self, supervisord: Any, *, audit: AuditFile, clock: Clock) -> None:
        self._supervisord = supervisord
        self._audit = audit
        self._clock = clock
        self._watched: dict[str, Watched] = {}
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
            watched = Watched(process=process, pack=group, clock=self._clock, audit=self._audit)
            self._watched[watched.name] = watched

    def _on_stopping(self, event: Any) -> None:
        if watched := self._watched.get(event.process.config.name):
            watched.stopping()

    def _sleep_no_longer_than_needed(self, poller: Any) -> None:
        poll = poller.poll

        def poll_until_due(timeout: float) -> Any:
            if self._supervisord.options.mood < SupervisorStates.RUNNING:
                return poll(timeout)  # shutting down: nobody is respawned
            due = [seconds for w in self._watched.values() if (seconds := w.seconds_to_respawn()) is not None]
            return poll(min([timeout, *due]))

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


def make_plugin(supervisord: Any, audit: str) -> PlatformInterface:
    """Called by supervisord when it starts, with the settings of its configuration section."""
    os.environ["PLATFORM_SUPERVISOR_PID"] = str(os.getpid())  # the launcher checks that its parent is still this one
    logger = supervisord.options.logger
    return PlatformInterface(supervisord, audit=AuditFile(Path(audit), complain=logger.error), clock=SystemClock())


def _wake_on_signals() -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    asyncore.socket_map[reading] = WakeUp(reading)


def _kill_group(pid: int) -> None:
    """End what a dead process left of its group; it led one of its own, so nobody else is in it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody left, the usual case


def _size(path: str | None) -> int:
    try:
        return Path(path).stat().st_size if path else 0
    except OSError:
        return 0


def _tail(path: str | None, *, offset: int) -> list[str]:
    """The last lines a process wrote since its start, from its crash log."""
    size = _size(path)
    begin = max(offset if size >= offset else 0, size - CRASH_TAIL_BYTES_MAX)
    try:
        with Path(path or "").open("rb") as file:
            file.seek(begin)
            return file.read(CRASH_TAIL_BYTES_MAX).decode(errors="replace").splitlines()[-CRASH_TAIL_LINES_MAX:]
    except OSError:
        return []
