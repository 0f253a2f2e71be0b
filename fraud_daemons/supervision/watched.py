"""One of supervisord's processes and our record beside it: its three methods wrapped, its deaths judged, its audit written.

- `finish`: a child has gone. Kill what is left of its process group, judge the death, write the audit;
- `transition`: respawn at once after the first death, then after a jittered, growing, capped delay, and not when held;
- `spawn`: write the audit of the start.
It refuses to connect to anything and to wait for anything: supervisord's one thread runs it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from supervisor.states import RUNNING_STATES, ProcessStates, getProcessStateDescription

from fraud_daemons.clock import Clock, iso
from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.supervision.audit import AuditFile
from fraud_daemons.supervision.death import Death
from fraud_daemons.supervision.incidents import DATABASE, Condition, Trouble, cause_of
from fraud_daemons.supervision.last_words import LastWords
from fraud_daemons.supervision.launcher import EXIT_LOCKED
from fraud_daemons.supervision.restart_policy import RestartPolicy
from fraud_daemons.supervision.watchdog import Watchdog

ANNOUNCEMENT_SECONDS_MAX: Final = 120.0  # an operator's word counts for the stop and start that follow it, not for ever


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
    words: LastWords
    fresh_policy: Callable[[], RestartPolicy]
    watchdog: Watchdog | None
    """None for a service of the substrate, which writes no heartbeat."""
    outage: Callable[[], str | None]
    """Why the shared database is away, as the workers' heartbeats say; None while it is there."""
    policy: RestartPolicy = field(init=False)
    held: str | None = None
    """Why it is not started again until somebody says so."""
    ended_by_watchdog: float | None = None
    announced: Announcement | None = None
    restarts: int = 0
    last_death: Death | None = None
    started_monotonic: float = 0.0
    stopping_monotonic: float | None = None
    respawn_monotonic: float = 0.0

    def __post_init__(self) -> None:
        self.policy = self.fresh_policy()
        self._spawn, self._finish, self._transition = self.process.spawn, self.process.finish, self.process.transition
        self.process.spawn, self.process.finish, self.process.transition = self.spawn, self.finish, self.transition

    @property
    def name(self) -> str:
        return str(self.process.config.name)

    def transition(self) -> None:
        """One turn of supervisord's loop for this process; a death is not followed by a spawn before its delay."""
        if self.process.state == ProcessStates.EXITED and (
            self.held or self.clock.monotonic() < self.respawn_monotonic
        ):
            return
        self._keep_drain_deadline()
        self._transition()
        if self.process.state == ProcessStates.STARTING:
            self._transition()  # startsecs is 0: no reason to be STARTING for another second

    def spawn(self) -> Any:
        """Start the process and write why."""
        unasked = self.process.state == ProcessStates.EXITED and self._word() is None
        self.started_monotonic = self.clock.monotonic()
        self.stopping_monotonic = self.ended_by_watchdog = None
        self.words.begin()
        if self.watchdog:
            self.watchdog.begin()
        if not unasked:
            self.held, self.policy = None, self.fresh_policy()
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
        outage = None if asked else self.outage() or self._waited_for()
        if not asked:
            self.respawn_monotonic = now + self.policy.delay_after(death.uptime_seconds)
            self._count(death, now, outage=outage)
        else:
            self.policy = self.fresh_policy()
        self._audit_end(pid, death, asked=asked, drained_at=now, outage=outage)
        if self.held:
            self._write("held", cause="deaths", pid=0, reason=self.held)
        self._forget_word()

    def stop(self) -> None:
        """An operator's stop, also for one that is dead and waits to be respawned or is held."""
        if self.process.state == ProcessStates.EXITED:
            self.held = None
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
        expected = self.process.exitstatus in self.process.config.exitcodes
        if self.process.state != ProcessStates.EXITED or self.held or expected:
            return None
        return max(0.0, self.respawn_monotonic - self.clock.monotonic())

    def look(self, elapsed_seconds: float) -> None:
        """The watchdog's look, `elapsed_seconds` after the one before: end the process group that is silent too long."""
        if self.watchdog is None or self.process.state not in (ProcessStates.RUNNING, ProcessStates.STARTING):
            return
        silent = self.watchdog.look(elapsed_seconds)
        if silent is not None and self.ended_by_watchdog is None:
            self.ended_by_watchdog = round(silent, 3)
            _kill_group(self.process.pid)  # also one that is stopped, wedged, or deaf to SIGTERM

    def condition(self) -> Condition:
        """How the worker is by its own word, for the incidents."""
        if self.held:
            return Trouble(self.name, self.held, seconds=0.0)
        if self.process.state == ProcessStates.STOPPED:
            return "gone" if self.started_monotonic else "unseen"
        beat = self._telling_beat()
        if beat is None or beat.state == "starting":
            return "unseen"
        if beat.state in ("ready", "stopping"):
            return "well"
        reason = beat.reason or beat.state
        seconds = self.clock.monotonic() - beat.since_monotonic
        return Trouble(cause_of(self.name, reason), reason, seconds, waits=beat.state == "waiting")

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
            "held_reason": self.held,
            "spawn_error": process.spawnerr if process.state in (ProcessStates.BACKOFF, ProcessStates.FATAL) else None,
        }

    def _telling_beat(self) -> Heartbeat | None:
        """The beat of the process that runs, or the last words of one that left for good."""
        if self.watchdog is None:
            return None
        if self.process.pid:
            return self.watchdog.own_beat(self.process.pid)
        last = self.watchdog.seen.beat
        gone_for_good = self.process.state == ProcessStates.EXITED and self.seconds_to_respawn() is None
        return last if gone_for_good and last is not None and last.state == "held" else None

    def _waited_for(self) -> str | None:
        """What of the database the process that has just gone was waiting for, if it was."""
        if self.watchdog is None:
            return None
        self.watchdog.seen.moved()
        beat = self.watchdog.seen.beat
        waited = beat is not None and beat.state == "waiting" and cause_of(self.name, beat.reason or "") == DATABASE
        return beat.reason if beat and waited else None

    def _keep_drain_deadline(self) -> None:
        """supervisord times a drain by the wall clock; a step of that clock must neither cut it short nor stretch it."""
        if self.process.state == ProcessStates.STOPPING and self.stopping_monotonic is not None:
            left = self.process.config.stopwaitsecs - (self.clock.monotonic() - self.stopping_monotonic)
            if left > 0:
                self.process.delay = self.clock.now().timestamp() + left

    def _count(self, death: Death, now: float, *, outage: str | None) -> None:
        """Hold it after too many deaths in the window; one that ended as it should, or in an outage, is none."""
        orderly = death.cause in ("finished", "configuration") or death.exit_code == EXIT_LOCKED
        if orderly or outage:
            return
        if deaths := self.policy.count(now):
            self.held = f"crash loop: {deaths}, the last: {_ending(death)}"

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
        silent = self.ended_by_watchdog if killer == "SIGKILL" else None
        if asked:
            cause = "operator" if self._word() else "shutdown"
        elif silent is not None:
            cause = "watchdog"
        elif killer:
            cause = "signal"
        else:
            cause = {ExitCode.GOOD.value: "finished", ExitCode.CONFIGURATION.value: "configuration"}.get(
                code or 0, "exit_code"
            )
        return Death(cause, code, killer, round(uptime, 3), iso(self.clock.now()), silent)

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

    def _audit_end(self, pid: int, death: Death, *, asked: bool, drained_at: float, outage: str | None) -> None:
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
            beat_age_seconds=death.beat_age_seconds,
            not_counted=outage,
            drain_seconds=drain,
            drain_seconds_max=self.process.config.stopwaitsecs if asked else None,
            respawn_seconds=None
            if asked or self.seconds_to_respawn() is None
            else round(self.seconds_to_respawn() or 0.0, 3),
            last_log_lines=self.words.lines(),
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


def _ending(death: Death) -> str:
    if death.cause == "watchdog":
        return f"no beat for {death.beat_age_seconds:.0f} s"
    return f"killed by {death.signal}" if death.signal else f"exit {death.exit_code}"


def _kill_group(pid: int) -> None:
    """End a process group, or what a dead process left of it; it led one of its own, so nobody else is in it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody left, the usual case
