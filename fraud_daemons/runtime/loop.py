"""The loop: the only endless one in the package. Around each step, once, in one place:
time it, beat, classify what was raised, rest interruptibly.

    transient  forget, back off (capped, jittered), same work again, no limit in time   -> waiting
    overload   take on less, grow back later; with the least possible: as transient     -> ready
    poison     narrow down to the record, dead-letter it, go on                         -> ready
    fatal      one clear line, leave with exit 78 (held until resumed)                  -> held
    bug        traceback, back off; after N in a row leave with exit 70                 -> failing

Whoever raises it - database, bus, object store, or the machine itself - the kind alone decides. Narrowing down is a step like
any other, with the same answer to whatever it raises. Nothing that an activity does in answer to a fault ends the loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fraud_daemons.clock import Clock
from fraud_daemons.errors import AnotherCopyError, ExitCode, FatalFault, OverloadFault, PoisonFault, TransientFault
from fraud_daemons.observability import events
from fraud_daemons.observability.heartbeat import HeartbeatFile, WorkerState
from fraud_daemons.observability.logs import Logger
from fraud_daemons.observability.pulse import heard_by
from fraud_daemons.runtime.activity import Activity, Outcome
from fraud_daemons.runtime.backoff import Backoff
from fraud_daemons.runtime.resources import fault_of_the_machine
from fraud_daemons.runtime.signals import StopRequest

Answer = TypeVar("Answer")

REST_SECONDS_MAX = 1.0  # the loop turns at least this often, so that it can beat


@dataclass(frozen=True)
class Limits:
    """How patient the loop is."""

    retry_delay_seconds_max: float = 1.5
    bugs_in_a_row_max: int = 5


@dataclass
class Turn:
    """One activity and where it stands."""

    activity: Activity
    backoff: Backoff
    due: float = 0.0
    state: WorkerState = "starting"
    reason: str | None = None
    trouble_since: float | None = None
    bugs_in_a_row: int = 0
    poison: PoisonFault | None = None
    """What the last step met and the next one is about."""


@dataclass
class _Figures:
    """Progress since the process began."""

    steps: int = 0
    records: int = 0
    faults: Counter[str] = field(default_factory=Counter)


class Loop:
    """Turns a worker's activities until asked to stop or until one of them must not go on."""

    def __init__(
        self,
        activities: Sequence[Activity],
        *,
        beat: HeartbeatFile,
        stop: StopRequest,
        clock: Clock,
        log: Logger,
        limits: Limits,
        connector_counters: Callable[[], dict[str, int]] = dict,
        platform_run_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._turns = [Turn(a, Backoff(cap_seconds=limits.retry_delay_seconds_max)) for a in activities]
        self._beat_file = beat
        self._stop = stop
        self._clock = clock
        self._log = log
        self._limits = limits
        self._connector_counters = connector_counters
        self._platform_run_id = platform_run_id
        self._figures = _Figures()
        self._exit: ExitCode | None = None

    def run(self) -> ExitCode:
        """Turn until stopped. The exit code says why."""
        with heard_by(self._beat_file.repeat):
            return self._run()

    def _run(self) -> ExitCode:
        self._beat()
        while not self._stop.requested and self._exit is None:
            for turn in self._turns:
                if turn.due <= self._clock.monotonic() and not self._stop.requested and self._exit is None:
                    self._take_step(turn)
            self._beat()
            self._rest()
        self._close()
        return self._exit if self._exit is not None else ExitCode.GOOD

    def _take_step(self, turn: Turn) -> None:
        """One step of one activity, and what its end means."""
        try:
            outcome = self._attempt(turn)
        except Exception as error:  # contained here and nowhere else
            self._answer(turn, fault_of_the_machine(error) or error)
        else:
            self._settle(turn, outcome)

    def _attempt(self, turn: Turn) -> Outcome:
        """A step; after poison, narrowing down on it, which is work on the database like any other and may fail like it."""
        poison, turn.poison = turn.poison, None
        if poison is None:
            return turn.activity.step()
        try:
            narrowed = turn.activity.isolate(poison)
        except PoisonFault as again:
            raise RuntimeError(f"poison cannot be set aside: {again}") from again
        if not narrowed:
            raise RuntimeError(f"poison that cannot be narrowed down: {poison}") from poison
        return Outcome()

    def _answer(self, turn: Turn, error: Exception) -> None:
        """What the loop does about a kind of fault: the table at the top of this file."""
        match error:
            case TransientFault():
                self._contain(turn, "transient", "waiting", error.reason)
            case OverloadFault():
                self._take_on_less(turn, error)
            case PoisonFault():
                self._forget(turn)
                self._count(turn, "poison", error.reason)
                turn.poison = error
            case AnotherCopyError():
                self._leave(turn, ExitCode.NO, "failing", error)
            case FatalFault():
                self._leave(turn, ExitCode.CONFIGURATION, "held", error)
            case _:  # a bug: nobody foresaw it
                self._meet_bug(turn, error)

    def _take_on_less(self, turn: Turn, fault: OverloadFault) -> None:
        self._forget(turn)
        if self._ask(turn, turn.activity.shrink, otherwise=False):
            self._count(turn, "overload", fault.reason)
        else:
            self._contain(turn, "overload", "waiting", fault.reason)

    def _forget(self, turn: Turn) -> None:
        self._ask(turn, turn.activity.forget, otherwise=None)

    def _ask(self, turn: Turn, question: Callable[[], Answer], *, otherwise: Answer) -> Answer:
        """Ask an activity something beside its steps; a bug in the answer is told and does not end the loop."""
        try:
            return question()
        except Exception as error:
            self._figures.faults["bug"] += 1
            self._log.error(events.BUG_MET, activity=turn.activity.name, exc_info=error)
            return otherwise

    def _settle(self, turn: Turn, outcome: Outcome) -> None:
        if turn.trouble_since is not None:
            seconds = round(self._clock.monotonic() - turn.trouble_since, 3)
            self._log.info(events.FAULT_ENDED, activity=turn.activity.name, reason=turn.reason, seconds=seconds)
        turn.state, turn.reason, turn.trouble_since, turn.bugs_in_a_row = "ready", None, None, 0
        turn.backoff.reset()
        turn.due = self._clock.monotonic() + outcome.rest_seconds
        self._figures.steps += 1
        self._figures.records += outcome.records

    def _contain(self, turn: Turn, kind: str, state: WorkerState, reason: str) -> None:
        """Forget what is in memory, say so, and try the same work again after a pause."""
        self._forget(turn)
        delay = turn.backoff.next_delay()
        first = turn.trouble_since is None
        turn.trouble_since = self._clock.monotonic() if first else turn.trouble_since
        self._count(turn, kind, reason, loud=first or turn.reason != reason)
        turn.state, turn.reason, turn.due = state, reason, self._clock.monotonic() + delay

    def _meet_bug(self, turn: Turn, error: Exception) -> None:
        turn.bugs_in_a_row += 1
        reason = f"bug: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        self._log.error(events.BUG_MET, activity=turn.activity.name, in_a_row=turn.bugs_in_a_row, exc_info=error)
        self._contain(turn, "bug", "failing", reason)
        if turn.bugs_in_a_row >= self._limits.bugs_in_a_row_max:
            self._exit = ExitCode.BUG

    def _leave(self, turn: Turn, code: ExitCode, state: WorkerState, fault: FatalFault) -> None:
        turn.state, turn.reason = state, fault.reason
        self._figures.faults["fatal"] += 1
        self._log.error(events.WORKER_HELD, activity=turn.activity.name, reason=fault.reason, message=str(fault))
        self._exit = code

    def _count(self, turn: Turn, kind: str, reason: str, *, loud: bool = True) -> None:
        self._figures.faults[kind] += 1
        if loud:
            self._log.warning(events.FAULT_CONTAINED, activity=turn.activity.name, kind=kind, reason=reason)

    def _beat(self) -> None:
        state, reason = self._worst()
        asked = [(turn, self._ask(turn, turn.activity.lag_records, otherwise=None)) for turn in self._turns]
        lags = [lag for _, lag in asked if lag is not None]
        self._beat_file.beat(
            state,
            reason,
            lag_records=sum(lags) if lags else None,
            steps=self._figures.steps,
            records=self._figures.records,
            faults=dict(self._figures.faults),
            dead_letters=sum(getattr(turn.activity, "dead_letters", 0) for turn in self._turns),
            connector=self._connector_counters(),
            platform_run_id=self._platform_run_id(),
            detail=self._detail(),
        )

    def _detail(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for turn in self._turns:
            nothing: dict[str, Any] = {}
            told.update(self._ask(turn, getattr(turn.activity, "detail", dict), otherwise=nothing))
        return told

    def _worst(self) -> tuple[WorkerState, str | None]:
        """The worker is as well as its least well activity."""
        order: Sequence[WorkerState] = ("held", "failing", "waiting", "stopping", "starting", "ready")
        worst = min(self._turns, key=lambda turn: order.index(turn.state))
        if self._stop.requested and worst.state in ("ready", "starting", "waiting"):
            return "stopping", None
        return worst.state, worst.reason

    def _rest(self) -> None:
        if self._exit is not None:
            return
        seconds = min(turn.due for turn in self._turns) - self._clock.monotonic()
        if seconds <= 0:
            return
        files = {id(turn): self._wake_files(turn) for turn in self._turns if turn.state == "ready"}
        woken = self._stop.rest(min(seconds, REST_SECONDS_MAX), [file for of in files.values() for file in of])
        if woken:  # somebody has work for us: whoever is well may step now
            for turn in self._turns:
                if files.get(id(turn)):
                    turn.due = 0.0

    def _wake_files(self, turn: Turn) -> list[int]:
        nothing: list[int] = []
        return self._ask(turn, turn.activity.wake_files, otherwise=nothing)

    def _close(self) -> None:
        """Say that it is stopping, let every activity finish, then beat a last time."""
        self._beat()
        for turn in self._turns:  # best effort: whatever it leaves behind is derived again
            self._ask(turn, turn.activity.close, otherwise=None)
        self._beat()
