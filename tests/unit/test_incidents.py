"""One cause behind many workers is one incident: when it begins, grows, lasts and ends, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.cli import main as command_line
from fraud_daemons.clock import ManualClock
from fraud_daemons.supervision.incidents import Condition, Incidents, Trouble, cause_of, folded

REFUSED = Trouble("postgres", "postgres: refused", seconds=0.5, waits=True)
LOST = Trouble("postgres", "postgres: connection lost", seconds=0.5, waits=True)


class Watch:
    """Incidents over a manual clock, looked at twice a second."""

    def __init__(self, *, earlier: list[dict[str, Any]] | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.records: list[dict[str, Any]] = []
        self.incidents = Incidents(self.records.append, clock=self.clock, patience_seconds=60.0, earlier=earlier or [])

    def look(self, seconds: float = 0.5, *, last: bool = False, **conditions: Condition) -> list[str]:
        """Look for so long; the phases written meanwhile."""
        before = len(self.records)
        for _ in range(int(seconds / 0.5)):
            self.clock.advance(0.5)
            self.incidents.look(conditions, last=last)
        return [record["phase"] for record in self.records[before:]]


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("postgres: refused", "postgres"),
        ("config: postgres: 28P01 for PLATFORM_DSN", "postgres"),
        ("waiting for decision_fabric: postgres: refused", "postgres"),
        ("object store: AccessDenied", "object store"),
        ("disk: full", "disk"),
        ("bus: no topic x", "bus"),
        ("bug: ValueError: postgres would be fine", "w"),
        ("http: no answer", "w"),
    ],
)
def test_a_reason_that_names_something_shared_blames_it(reason: str, cause: str) -> None:
    """Whoever reports it and through whom; everything else is the worker's own trouble."""
    assert cause_of("w", reason) == cause


def test_many_workers_one_cause_one_incident() -> None:
    """Other words for the same outage, a worker that joins, one that comes back and fails again: still one; its duration is
    that of the trouble, not of the telling."""
    watch = Watch()
    assert watch.look(a=REFUSED, b="well") == ["began"]
    assert watch.look(4.0, a=LOST, b=REFUSED) == ["spread"]
    assert watch.look(2.0, a="well", b="well") == []
    assert watch.look(2.0, a=REFUSED, b="well") == []
    assert watch.look(4.0, a="well", b="well") == ["ended"]
    (incident,) = folded(watch.records)
    assert incident["workers"] == ["a", "b"]
    assert incident["reasons"] == ["postgres: refused", "postgres: connection lost"]
    assert incident["seconds"] == 8.5 + 0.5
    assert watch.look(10.0, a="well", b="well") == []


def test_two_causes_are_two_incidents() -> None:
    """A worker that goes over from one trouble to another leaves the first."""
    watch = Watch()
    own = {name: Trouble(name, "bug: ValueError", seconds=0.0) for name in ("a", "b")}
    assert watch.look(a=REFUSED, b=own["b"]) == ["began", "began"]
    assert watch.look(4.0, **own) == ["began", "ended"]
    assert [(r["worker"], r["phase"]) for r in watch.records[2:]] == [("a", "began"), ("postgres", "ended")]


def test_patience_is_not_silent() -> None:
    """What lasts beyond the bound is told of once more, and stands so in the folded record after its end too."""
    watch = Watch()
    assert watch.look(100.0, a=REFUSED) == ["began", "lasting"]
    assert watch.look(4.0, a="well") == ["ended"]
    assert folded(watch.records)[0]["lasting"] is True


def test_a_dead_or_starting_worker_stays_touched_and_a_stopped_one_does_not() -> None:
    """Nothing is known of a process between its death and its first beat; an operator's stop takes it out."""
    watch = Watch()
    watch.look(a=REFUSED)
    assert watch.look(20.0, a="unseen") == []
    assert watch.look(4.0, a=REFUSED) == []
    assert watch.look(4.0, a="gone") == ["ended"]
    watch.look(a=REFUSED)
    assert watch.look(70.0, a="unseen")[-1] == "ended", "not for ever"


def test_the_next_supervisor_goes_on_with_what_is_open() -> None:
    """An incident that began under one supervisor ends under the next, as one; one that had ended stays ended."""
    first = Watch()
    first.look(a=REFUSED, b=LOST)
    first.look(4.0, a="well", b="well")
    first.look(a=REFUSED, b=LOST)
    first.clock.advance(5.0)
    second = Watch(earlier=first.records, clock=first.clock)
    assert second.look(2.0, a="unseen", b="unseen") == []
    assert second.look(2.0, a=REFUSED, b="unseen") == []
    assert second.look(4.0, a="well", b="well") == ["ended"]
    assert len(folded([*first.records, *second.records])) == 2


def test_the_last_look_of_a_supervisor_ends_what_is_over() -> None:
    """A platform that is taken down leaves no incident open; nobody would look again."""
    watch = Watch()
    watch.look(a=REFUSED)
    assert watch.look(a="gone", last=True) == ["ended"]


def test_events_shows_one_line_per_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its cause, how many and whom it touched, from when to when; found by the name of any worker in it."""
    watch = Watch()
    six = {f"worker_{n}": REFUSED for n in range(6)}
    watch.look(14.0, **six)
    watch.look(4.0, **dict.fromkeys(six, "well"))
    watch.look(**six)
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(record) + "\n" for record in watch.records))
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(tmp_path))
    assert command_line.run(["events", "worker_5"]) == 0
    over, still = capsys.readouterr().out.splitlines()
    assert over.startswith("2026-01-01T00:00:00.500Z  postgres                     incident")
    assert (
        "refused: 6 workers, from 00:00:00Z to 00:00:14Z, 14 s - worker_0, worker_1, worker_2, worker_3 and 2 more"
        in over
    )
    assert "not over" in still
    assert command_line.run(["events", "another"]) == 0
    assert capsys.readouterr().out == "no events yet\n"
    assert command_line.run(["events", "--json"]) == 0
    assert [e["phase"] for e in json.loads(capsys.readouterr().out)["events"]] == ["ended", "began"]
