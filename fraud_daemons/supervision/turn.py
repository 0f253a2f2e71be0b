"""One operator's action on a running supervisor - start, stop, wait until ready - under one deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fraud_daemons.clock import Clock
from fraud_daemons.errors import CommandError
from fraud_daemons.observability.heartbeat import read_heartbeat
from fraud_daemons.status.picture import FAILING, HELD, WorkerPicture, reason_text
from fraud_daemons.supervision import overview
from fraud_daemons.supervision.client import SupervisedProcess, SupervisorClient
from fraud_daemons.supervision.deployment import Deployment
from fraud_daemons.supervision.launcher import EXIT_LOCKED
from fraud_daemons.supervision.waiting import Tell, operator_name, wait_until

LAST_LINES_MAX = 3
LINES_READ_MAX = 40
HEARD_SECONDS_MAX = 0.7  # a step that takes longer to end does not hold up everybody's drain
QUICK_DEATHS_MAX = 3  # a worker that dies this often in a row by itself will not become ready by waiting


@dataclass(frozen=True)
class Blocker:
    """A worker or service that did not become ready, and the last that is known of it."""

    name: str
    status: str
    reason: str | None
    last_lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} is {self.status}" + (f" ({self.reason})" if self.reason else "")


class Turn:
    """One operator's action on a running supervisor, under one deadline."""

    def __init__(
        self,
        deployment: Deployment,
        client: SupervisorClient,
        *,
        action: str,
        operator: str | None,
        tell: Tell,
        deadline: float,
        clock: Clock,
    ) -> None:
        self.deployment = deployment
        self.client = client
        self.action = action
        self.operator = operator or operator_name()
        self.tell = tell
        self.clock = clock
        self.deadline = deadline

    def start(self, workers: Sequence[str], *, wait: bool = True) -> list[Blocker]:
        """Start in waves, each when the one before is ready. Returns who blocks."""
        for wave in self.deployment.levels(workers):
            processes = self.client.snapshot().processes
            if unknown := [w for w in wave if w not in processes]:
                message = f"the running supervisor does not know {', '.join(unknown)}: packs have changed since it was started"
                raise CommandError(f"{message}; run: platform down, then platform up")
            idle = [processes[w] for w in wave if not processes[w].runs and not self._stays_held(processes[w])]
            self._announce([process.name for process in idle])
            if idle:
                self.tell(f"starting {', '.join(process.name for process in idle)}")
            for process in idle:
                self.client.start(process)
            blocking = self._await_ready(wave, before=processes) if wait else []
            if blocking:
                return blocking
        return []

    def stop(self, workers: Sequence[str]) -> list[Blocker]:
        """Stop in reverse order, drain in parallel: each wave is told when the one before has heard, ingress first, so
        that nothing new comes in; then all of them have the same deadline. Returns who would not go."""
        before: Sequence[str] = ()
        for number, wave in enumerate(reversed(self.deployment.levels(workers))):
            self._await_heard(before)
            before = wave
            self._tell_to_stop(
                wave, words=f"draining {', '.join(wave)}" if number == 0 else f"draining {len(wave)} more"
            )
        return self._await_gone(workers)

    def stop_together(self, names: Sequence[str], *, words: str) -> list[Blocker]:
        """Send every stop signal, then wait for all of them; supervisord kills who passes its own drain deadline."""
        self._tell_to_stop(names, words=words)
        return self._await_gone(names)

    def _tell_to_stop(self, names: Sequence[str], *, words: str) -> None:
        processes = self.client.snapshot().processes
        named = [processes[name] for name in names if name in processes]
        self._announce([process.name for process in named])
        if any(process.runs for process in named):
            self.tell(words)
        for process in named:
            self.client.stop(process)

    def _await_heard(self, names: Sequence[str]) -> None:
        """Wait, not for long, until each says in its heartbeat that it is stopping, or has gone."""

        def heard() -> bool:
            beats = [read_heartbeat(self.deployment.beat(name)) for name in self._running(names)]
            return all(beat is not None and beat.state == "stopping" for beat in beats)

        wait_until(heard, min(self.deadline, self.clock.monotonic() + HEARD_SECONDS_MAX), self.clock)

    def _await_gone(self, names: Sequence[str]) -> list[Blocker]:
        if wait_until(lambda: not self._running(names), self.deadline, self.clock):
            return []
        return [Blocker(name, "still running", "passed its drain deadline") for name in self._running(names)]

    def _stays_held(self, process: SupervisedProcess) -> bool:
        return process.held and self.action in ("up", "start")

    def _running(self, names: Sequence[str]) -> list[str]:
        processes = self.client.snapshot().processes
        return [name for name in names if name in processes and processes[name].runs]

    def _announce(self, names: list[str]) -> None:
        if names:
            self.client.announce(self.action, operator=self.operator, names=names)

    def _await_ready(self, wave: Sequence[str], *, before: Mapping[str, SupervisedProcess]) -> list[Blocker]:
        """Wait until all of `wave` are ready, or those that are not will never be: held, or dying again and again."""
        pending: list[WorkerPicture] = []
        hopeless: set[str] = set()

        def settled() -> bool:
            snapshot = self.client.snapshot()
            picture = overview.draw(self.deployment, snapshot, clock=self.clock)
            pending[:] = [worker for worker in picture.workers if worker.worker in wave and not worker.ready]
            held = {worker.worker for worker in pending if worker.status == HELD}
            looping = {w.worker for w in pending if _keeps_dying(snapshot.processes[w.worker], before=before[w.worker])}
            hopeless.clear()
            hopeless.update(held | looping)
            return len(hopeless) == len(pending)

        wait_until(settled, self.deadline, self.clock)
        pending.sort(key=lambda worker: worker.worker not in hopeless)  # the cause first, who merely waits after it
        return [self._blocker(worker, looping=worker.worker in hopeless) for worker in pending]

    def _blocker(self, worker: WorkerPicture, *, looping: bool) -> Blocker:
        status, reason = worker.status, reason_text(worker)
        if looping and status != HELD:  # between two deaths it looks as if it were starting
            status = FAILING
            process = self.client.snapshot().processes[worker.worker]
            reason = f"{process.last_death}, {process.quick_deaths} times in a row"
        log = self.deployment.crash_log(worker.worker)
        # what one that merely waits has printed is of an earlier life
        return Blocker(worker.worker, status, reason, last_lines(log) if status in (HELD, FAILING) else ())


def _keeps_dying(process: SupervisedProcess, *, before: SupervisedProcess) -> bool:
    """Whether it has died by itself, young, several times in a row, and at least once since `before`."""
    death = process.last_death
    by_itself = death is not None and death.exit_code not in (None, EXIT_LOCKED)
    return by_itself and death != before.last_death and process.quick_deaths >= QUICK_DEATHS_MAX


def last_lines(path: Path) -> tuple[str, ...]:
    """The last few lines of a log, each once, () when there is none: who died three times says the same three times."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    different = list(dict.fromkeys(line for line in reversed(lines[-LINES_READ_MAX:]) if line.strip()))
    return tuple(reversed(different[:LAST_LINES_MAX]))
