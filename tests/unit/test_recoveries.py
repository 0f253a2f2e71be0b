"""What a kill cost: which process counts as the next one, and from when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fraud_daemons.acceptance.drills.recoveries import Recoveries
from fraud_daemons.clock import iso
from fraud_daemons.observability.heartbeat import Heartbeat

KILLED_AT = datetime(2026, 2, 10, 8, 30, tzinfo=UTC)


def after(seconds: float) -> str:
    return iso(KILLED_AT + timedelta(seconds=seconds))


def beat(worker: str, pid: int, state: Any, *, since: float) -> Heartbeat:
    return Heartbeat(
        worker=worker, pack="rtdl_core", pid=pid, start_ticks=1, boot_id="b", beat_monotonic=0.0, beat_at=after(since),
        state=state, reason=None, since_monotonic=0.0, since=after(since),
    )  # fmt: skip


def exits(worker: str, pid: int, *, at: float, respawn_seconds: float | None = None) -> dict[str, Any]:
    record = {"kind": "exit", "worker": worker, "pid": pid, "at": after(at), "signal": "SIGKILL"}
    return record | ({"respawn_seconds": respawn_seconds} if respawn_seconds else {})


def restarts(worker: str, pid: int, *, at: float) -> dict[str, Any]:
    return {"kind": "restart", "worker": worker, "pid": pid, "at": after(at)}


def test_the_new_process_counts_from_the_signal_and_not_from_the_death_s_line() -> None:
    """From the signal on, whenever supervision wrote the death down."""
    recoveries = Recoveries()
    recoveries.killed("archive_writer", 10, KILLED_AT)
    audit = [exits("archive_writer", 10, at=0.030), restarts("archive_writer", 11, at=0.042)]
    assert recoveries.respawn_milliseconds(audit) == [42.0]


def test_ready_is_what_the_next_process_says_and_not_the_last_beat_of_the_killed_one() -> None:
    """The dead process's last word is no recovery."""
    recoveries = Recoveries()
    recoveries.killed("archive_writer", 10, KILLED_AT)
    recoveries.look([beat("archive_writer", 10, "ready", since=-30.0)])
    assert recoveries.open
    recoveries.look([beat("archive_writer", 11, "starting", since=0.3)])
    assert recoveries.open
    recoveries.look([beat("archive_writer", 11, "ready", since=0.9)])
    assert not recoveries.open
    assert recoveries.ready_seconds([exits("archive_writer", 10, at=0.03)]) == [0.9]


def test_a_worker_killed_again_while_it_is_young_waits_its_backoff_and_is_not_counted() -> None:
    """Its backoff is meant, so the wait is nobody's delay."""
    recoveries = Recoveries()
    recoveries.killed("archive_writer", 10, KILLED_AT)
    recoveries.killed("archive_writer", 11, KILLED_AT + timedelta(seconds=0.2))
    recoveries.look([beat("archive_writer", 12, "ready", since=4.0)])
    audit = [
        exits("archive_writer", 10, at=0.01),
        restarts("archive_writer", 11, at=0.02),
        exits("archive_writer", 11, at=0.21, respawn_seconds=1.5),
        restarts("archive_writer", 12, at=1.7),
    ]
    assert recoveries.respawn_milliseconds(audit) == [20.0]
    assert recoveries.ready_seconds(audit) == []


def test_a_pid_that_came_around_again_is_another_death() -> None:
    """An hour of kills uses every pid of the machine: what died under this one before the signal was another process."""
    recoveries = Recoveries()
    recoveries.killed("archive_writer", 10, KILLED_AT)
    before = [exits("case_trigger", 10, at=-1800.0), restarts("case_trigger", 12, at=-1799.9)]
    assert not recoveries.all_died(before)
    audit = [*before, exits("archive_writer", 10, at=0.01), restarts("archive_writer", 11, at=0.02)]
    assert recoveries.all_died(audit)
    assert [death["worker"] for death in recoveries.deaths(audit)] == ["archive_writer"]
    assert recoveries.respawn_milliseconds(audit) == [20.0]
