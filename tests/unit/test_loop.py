"""The one loop: what it does about each kind of fault, and what it says meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from fraud_daemons.clock import ManualClock
from fraud_daemons.errors import (
    AnotherCopyError,
    CommitAmbiguous,
    ConfigurationError,
    ExitCode,
    FatalFault,
    OverloadFault,
    PoisonFault,
    TransientFault,
)
from fraud_daemons.evidence.port import EvidenceConflict
from fraud_daemons.evidence.s3 import StoreRefusal
from fraud_daemons.observability.heartbeat import HeartbeatFile, read_heartbeat
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.observability.pulse import pulse
from fraud_daemons.runtime.activity import Outcome, PlainActivity
from fraud_daemons.runtime.loop import Limits, Loop
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.supervision.watchdog import BeatSeen


class Scripted(PlainActivity):
    """Does what it is told, step by step: an outcome, or a fault to raise. Asks for a stop at the end of its script."""

    name = "scripted"

    def __init__(self, script: list[Outcome | Exception], stop: StopRequest) -> None:
        self._script = script
        self._stop = stop
        self.forgotten = self.shrunk = self.closed = 0
        self.isolated: list[PoisonFault] = []
        self.on_isolate: bool | Exception = True
        self.on_shrink: bool | Exception = True

    def step(self) -> Outcome:
        if not self._script:
            self._stop.request()
            return Outcome()
        what = self._script.pop(0)
        if isinstance(what, Exception):
            raise what
        return what

    def forget(self) -> None:
        self.forgotten += 1

    def shrink(self) -> bool:
        self.shrunk += 1
        return self._answer(self.on_shrink)

    def isolate(self, fault: PoisonFault) -> bool:
        self.isolated.append(fault)
        return self._answer(self.on_isolate)

    @staticmethod
    def _answer(what: bool | Exception) -> bool:
        if isinstance(what, Exception):
            raise what
        return what

    def close(self) -> None:
        self.closed += 1


class RestingStop(StopRequest):
    """A stop request whose rests move a manual clock instead of waiting, and notes what was said meanwhile."""

    def __init__(self, clock: ManualClock, look: Callable[[], None]) -> None:
        super().__init__()
        self._clock = clock
        self._look = look
        self.rests: list[float] = []

    def rest(self, seconds: float, files: object = ()) -> bool:
        self._look()
        self.rests.append(seconds)
        self._clock.advance(seconds)
        return False


class Bench:
    """A loop over one scripted activity, with its heartbeat file."""

    def __init__(self, folder: Path, script: list[Outcome | Exception]) -> None:
        self.clock = ManualClock()
        self.path = folder / "w.json"
        self.states: list[tuple[str, str | None]] = []
        self.stop = RestingStop(self.clock, self._note)
        self.activity = Scripted(script, self.stop)
        me = identity_of(os.getpid())
        assert me
        beat = HeartbeatFile(self.path, worker="w", pack="p", process=me, clock=self.clock, version="test")
        self.loop = Loop(
            [self.activity], beat=beat, stop=self.stop, clock=self.clock, log=structlog.get_logger(),
            limits=Limits(retry_delay_seconds_max=2.0, bugs_in_a_row_max=3),
        )  # fmt: skip

    def _note(self) -> None:
        beat = read_heartbeat(self.path)
        assert beat
        self.states.append((beat.state, beat.reason))

    def run(self) -> ExitCode:
        return self.loop.run()


def test_a_transient_fault_waits_without_end_and_comes_back(tmp_path: Path) -> None:
    """Forty failures in a row: the process stays, says waiting and why, forgets its caches, never waits over 2 s."""
    bench = Bench(
        tmp_path, [TransientFault("gone", reason="postgres: refused")] * 40 + [Outcome(records=3, rest_seconds=0.1)]
    )
    assert bench.run() is ExitCode.GOOD
    assert ("waiting", "postgres: refused") in bench.states
    assert bench.activity.forgotten == 40
    assert max(bench.stop.rests) <= 2.0
    beat = read_heartbeat(bench.path)
    assert beat
    assert (beat.faults, beat.records) == ({"transient": 40}, 3)
    assert bench.activity.closed == 1


def test_overload_takes_on_less_and_stays_ready(tmp_path: Path) -> None:
    """A statement timeout halves the batch at once, without a pause and without a word of trouble."""
    bench = Bench(
        tmp_path,
        [Outcome(rest_seconds=0.1), OverloadFault("timeout", reason="postgres: 57014"), Outcome(rest_seconds=0.1)],
    )
    assert bench.run() is ExitCode.GOOD
    assert bench.activity.shrunk == 1
    assert {state for state, _ in bench.states} <= {"ready"}


def test_poison_is_isolated(tmp_path: Path) -> None:
    """A record that breaks its contract is narrowed down; the worker goes on."""
    fault = PoisonFault("bad", reason="22P02")
    bench = Bench(tmp_path, [fault, Outcome(rest_seconds=0.1)])
    assert bench.run() is ExitCode.GOOD
    assert bench.activity.isolated == [fault]


def test_fatal_leaves_with_78_and_says_why(tmp_path: Path) -> None:
    """A configuration fault is not looped: exit 78, the reason in the last beat."""
    bench = Bench(tmp_path, [FatalFault("no table", reason="config: 42P01")])
    assert bench.run() is ExitCode.CONFIGURATION
    beat = read_heartbeat(bench.path)
    assert beat
    assert (beat.state, beat.reason) == ("held", "config: 42P01")


def test_another_copy_makes_this_one_leave(tmp_path: Path) -> None:
    """Compare-and-set hit nothing: the older copy stops at once and is not held."""
    assert Bench(tmp_path, [AnotherCopyError("took over")]).run() is ExitCode.NO


def test_a_bug_backs_off_and_leaves_after_three_in_a_row(tmp_path: Path) -> None:
    """Nobody foresaw it: failing, paused, and exit 70 after the stated number - but a good step in between forgives."""
    bug = [ValueError("surprise"), ValueError("surprise")]
    forgiven = Bench(tmp_path, [*bug, Outcome(rest_seconds=0.1), *bug, Outcome(rest_seconds=0.1)])
    assert forgiven.run() is ExitCode.GOOD
    assert any(state == "failing" for state, _ in forgiven.states)
    assert Bench(tmp_path, [ValueError("surprise")] * 3).run() is ExitCode.BUG


WELL = Outcome(rest_seconds=0.1)
TRANSIENT = TransientFault("gone", reason="postgres: refused")
POISON = PoisonFault("bad", reason="postgres: 22P02")


@pytest.mark.parametrize(
    ("raised", "states", "code", "faults"),
    [
        (TRANSIENT, [("waiting", "postgres: refused")], ExitCode.GOOD, {"transient": 1}),
        (CommitAmbiguous("?", reason="postgres: no answer"), [("waiting", "postgres: no answer")], ExitCode.GOOD, {"transient": 1}),
        (StoreRefusal("no", reason="object store: AccessDenied"), [("waiting", "object store: AccessDenied")], ExitCode.GOOD, {"transient": 1}),
        (OSError(errno.ENOSPC, "No space left on device"), [("waiting", "disk: full")], ExitCode.GOOD, {"transient": 1}),
        (OSError(errno.EMFILE, "Too many open files"), [("waiting", "machine: no descriptor left in this process")], ExitCode.GOOD, {"transient": 1}),
        (OverloadFault("slow", reason="postgres: 57014"), [], ExitCode.GOOD, {"overload": 1}),
        (MemoryError(), [], ExitCode.GOOD, {"overload": 1}),
        (POISON, [], ExitCode.GOOD, {"poison": 1}),
        (ValueError("surprise"), [("failing", "bug: ValueError: surprise")], ExitCode.GOOD, {"bug": 1}),
        (OSError(errno.EBADF, "Bad file descriptor"), [("failing", "bug: OSError: [Errno 9] Bad file descriptor")], ExitCode.GOOD, {"bug": 1}),
        (FatalFault("no table", reason="postgres: 42P01"), [], ExitCode.CONFIGURATION, {"fatal": 1}),
        (EvidenceConflict("other bytes", reason="evidence conflict at k"), [], ExitCode.CONFIGURATION, {"fatal": 1}),
        (ConfigurationError(["x = 1: wrong"], source="profile"), [], ExitCode.CONFIGURATION, {"fatal": 1}),
        (AnotherCopyError("took over"), [], ExitCode.NO, {"fatal": 1}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_each_kind_has_its_one_answer(
    tmp_path: Path, raised: Exception, states: list[tuple[str, str]], code: ExitCode, faults: dict[str, int]
) -> None:
    """Database, bus, store or machine: the kind decides what status says meanwhile, the exit code and what is counted; and
    whatever it was, what is held in memory is forgotten before the next try."""
    bench = Bench(tmp_path, [WELL, raised, WELL])
    assert bench.run() is code
    assert [told for told in bench.states if told != ("ready", None)] == states
    beat = read_heartbeat(bench.path)
    assert beat
    assert beat.faults == faults
    stays = code is ExitCode.GOOD
    assert bench.activity.forgotten == (1 if stays else 0)
    assert beat.state == {ExitCode.GOOD: "stopping", ExitCode.CONFIGURATION: "held", ExitCode.NO: "failing"}[code]


def test_too_much_with_the_least_possible_waits(tmp_path: Path) -> None:
    """A single record that is too much cannot be halved: it waits as for an outage, and says so."""
    bench = Bench(tmp_path, [WELL, OverloadFault("slow", reason="postgres: 57014"), WELL])
    bench.activity.on_shrink = False
    assert bench.run() is ExitCode.GOOD
    assert ("waiting", "postgres: 57014") in bench.states


@pytest.mark.parametrize(
    ("answer", "code", "faults"),
    [
        (TRANSIENT, ExitCode.GOOD, {"poison": 1, "transient": 1}),
        (OverloadFault("slow", reason="postgres: 57014"), ExitCode.GOOD, {"poison": 1, "overload": 1}),
        (FatalFault("too many", reason="t: too many dead letters in a row"), ExitCode.CONFIGURATION, {"poison": 1, "fatal": 1}),
        (AnotherCopyError("took over"), ExitCode.NO, {"poison": 1, "fatal": 1}),
        (POISON, ExitCode.GOOD, {"poison": 1, "bug": 1}),
        (ValueError("surprise"), ExitCode.GOOD, {"poison": 1, "bug": 1}),
        (False, ExitCode.GOOD, {"poison": 1, "bug": 1}),
    ],
    ids=["transient", "overload", "fatal", "another copy", "poison again", "bug", "cannot"],
)  # fmt: skip
def test_setting_poison_aside_may_fail_like_any_step(
    tmp_path: Path, answer: bool | Exception, code: ExitCode, faults: dict[str, int]
) -> None:
    """Narrowing down and burying is work on the database too: whatever it meets has the same answer as in a step."""
    bench = Bench(tmp_path, [WELL, POISON, WELL])
    bench.activity.on_isolate = answer
    assert bench.run() is code
    beat = read_heartbeat(bench.path)
    assert beat
    assert beat.faults == faults


def test_a_bug_beside_the_steps_does_not_end_the_loop(tmp_path: Path) -> None:
    """What an activity says of itself - lag, detail, wake-ups - and how it forgets, shrinks and closes may fail: told,
    counted, and the loop goes on."""
    bench = Bench(tmp_path, [WELL, TRANSIENT, OverloadFault("slow"), WELL, Outcome(records=2, rest_seconds=0.1)])

    def surprise() -> None:
        raise ValueError("surprise")

    for question in ("forget", "shrink", "lag_records", "wake_files", "detail", "close"):
        setattr(bench.activity, question, surprise)
    assert bench.run() is ExitCode.GOOD
    beat = read_heartbeat(bench.path)
    assert beat
    assert beat.records == 2
    assert beat.faults["bug"] > 6


def test_a_stop_request_ends_a_rest(tmp_path: Path) -> None:
    """A signal only sets a flag and wakes the sleeper."""
    stop = StopRequest()
    stop.request()
    assert stop.requested
    assert stop.rest(60.0) is False


@pytest.mark.parametrize("state", ["ready", "waiting"])
def test_beats_are_at_most_one_a_second_unless_something_changes(tmp_path: Path, state: str) -> None:
    """The heartbeat file is not a log: an unchanged state is written once a second, a change at once."""
    clock = ManualClock()
    me = identity_of(os.getpid())
    assert me
    beat = HeartbeatFile(tmp_path / "b.json", worker="w", pack="p", process=me, clock=clock, version="test")
    written = 0
    for _ in range(50):
        written += beat.beat(state)  # type: ignore[arg-type]
        clock.advance(0.1)
    assert written == 5
    assert beat.beat("failing", "other")


def test_a_beat_on_a_full_disk_does_not_kill(tmp_path: Path) -> None:
    """A heartbeat that cannot be written is counted and skipped."""
    me = identity_of(os.getpid())
    assert me
    beat = HeartbeatFile(
        tmp_path / "no" / "b.json", worker="w", pack="p", process=me, clock=ManualClock(), version="test"
    )
    assert beat.beat("ready") is False
    assert beat.failed_writes == 1


def test_a_beat_on_a_full_disk_still_moves_the_file(tmp_path: Path) -> None:
    """When there is no room for a new file the old one is touched: enough for the watchdog, and its age is still told."""
    me = identity_of(os.getpid())
    assert me
    clock = ManualClock()
    path = tmp_path / "b.json"
    beat = HeartbeatFile(path, worker="w", pack="p", process=me, clock=clock, version="test")
    seen = BeatSeen(path)
    assert beat.beat("ready")
    assert seen.moved()
    assert not seen.moved()
    (tmp_path / "b.new").mkdir()  # in the way, as a full disk is
    clock.advance(5.0)
    assert beat.beat("ready") is False
    assert seen.moved()
    last = read_heartbeat(path)
    assert last
    assert last.beat_monotonic == 0.0


def test_a_step_that_waits_under_a_deadline_beats_meanwhile(tmp_path: Path) -> None:
    """Pulses within a step repeat the last beat once a second; outside the loop nobody hears them."""
    bench = Bench(tmp_path, [])

    def step() -> Outcome:
        for _ in range(30):
            bench.clock.advance(0.5)
            pulse()
        beat = read_heartbeat(bench.path)
        assert beat
        assert (beat.state, beat.beat_monotonic) == ("starting", 15.0)
        bench.stop.request()
        return Outcome()

    bench.activity.step = step
    assert bench.run() is ExitCode.GOOD
    last = read_heartbeat(bench.path)
    bench.clock.advance(60.0)
    pulse()
    assert read_heartbeat(bench.path) == last


def test_a_wait_that_repeats_the_beat_does_not_keep_the_loop_from_telling(tmp_path: Path) -> None:
    """Every wait for the database may repeat the last beat just before the loop beats: what the loop has to say - lag,
    faults, the policy it decides by - is in the file all the same within two seconds."""
    clock = ManualClock()
    me = identity_of(os.getpid())
    assert me
    beat = HeartbeatFile(tmp_path / "w.json", worker="w", pack="p", process=me, clock=clock, version="test")
    for steps in range(10):
        beat.repeat()
        beat.beat("ready", steps=steps)
        clock.advance(0.5)
    told = read_heartbeat(tmp_path / "w.json")
    assert told
    assert told.steps >= 8
