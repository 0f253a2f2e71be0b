"""online_feature_plane and labels: every label observed by then counts, none observed later, whatever the timing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import iso
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, TRUTH, make_mark
from fraud_daemons.domain.features import DAY_MICROSECONDS, microseconds
from fraud_daemons.domain.labels import as_of
from fraud_daemons.postgres_runtime.connector import DsnSource
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import feature_labels
from fraud_daemons.workers.rtdl_core._labels import Labels
from fraud_daemons.workers.rtdl_core.online_feature_plane import WORKER
from tests.bound_flows import START, bound, vectors
from tests.line import RUN, Line

SCENARIO = "a" * 32
DELAY = {"features.label_delay_days": 1}
HOUR = 3600


def at(second: int) -> str:
    return iso(START + timedelta(seconds=second))


def label(
    flow: int, *, observed: int, value: str = "FRAUD", source: str = "EXTERNAL", **changes: Any
) -> dict[str, Any]:
    """A label of flow `flow`, observed `observed` seconds after the start."""
    return {
        "label_id": f"l{flow}-{observed}-{source}",
        "platform_run_id": RUN,
        "flow_id": f"f{flow}",
        "type": "fraud_disposition",
        "value": value,
        "fraud_type": None,
        "source": source,
        "effective_time": at(0),
        "observed_time": at(observed),
        "recorded_at": at(observed),
        "supersedes": None,
        **changes,
    }


def mark(up_to: str, seq: int = AFTER_EVERYTHING[1], *, reason: str | None = None, run: str = RUN) -> dict[str, Any]:
    return make_mark(
        output=TRUTH, up_to=(up_to, seq), end_of_world=reason is not None, stop_reason=reason, platform_run_id=run,
        scenario_run_id=SCENARIO, world="demo", producer="p",
    )  # fmt: skip


def pass_mark(line: Line, second: int) -> None:
    """A mark of the truth feed as label_store passes it on, and as it stands on `truth` before that."""
    for topic in (TRUTH, "labels"):
        line.append(topic, [mark(at(second))], key=lambda _: "mark-0")


def expected_shares(
    bodies: Sequence[Mapping[str, Any]], labels: Sequence[Mapping[str, Any]], delay: int
) -> dict[str, list[float]]:
    """Fraud shares from nothing but records and labels, by the definition."""
    found = {}
    for body in bodies:
        time = microseconds(body["occurred_at"])
        end, shares = time - delay * DAY_MICROSECONDS, []
        for days in (1, 7, 30):
            inside = [
                b["flow_id"] for b in bodies
                if b["terminal_id"] == body["terminal_id"] and end - days * DAY_MICROSECONDS < microseconds(b["occurred_at"]) <= end
                and (delay or (microseconds(b["occurred_at"]), b["source_seq"]) <= (time, body["source_seq"]))
            ]  # fmt: skip
            frauds = [f for f in inside if f != body["flow_id"] and _fraud(f, labels, body["occurred_at"])]
            shares.append(len(frauds) / len(inside) if inside else 0.0)
        found[body["flow_id"]] = shares
    return found


def _fraud(flow_id: str, labels: Sequence[Mapping[str, Any]], time: str) -> bool:
    standing = as_of([one for one in labels if one["flow_id"] == flow_id], time)
    return standing is not None and standing["value"] == "FRAUD"


def shares(line: Line) -> dict[str, list[float]]:
    return {
        flow: [features[f"terminal_fraud_share_{days}d"] for days in (1, 7, 30)]
        for (_, flow), features in vectors(line).items()
    }


def world(size: int = 120) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A transaction every three hours at two terminals, every fourth a fraud known 2 to 90 hours later, some corrected."""
    dice = random.Random(5)
    bodies = [bound(n, second=n * 3 * HOUR) for n in range(size)]
    labels = []
    for n in range(0, size, 4):
        observed = n * 3 * HOUR + dice.randrange(2, 90) * HOUR
        labels.append(label(n, observed=observed))
        if n % 3 == 0:
            first = labels[-1]["label_id"]
            labels.append(label(n, observed=observed + dice.randrange(1, 60) * HOUR, value="LEGIT", supersedes=first))
    return bodies, sorted(labels, key=lambda one: one["observed_time"])


@pytest.mark.parametrize("delay", [0, 1])
def test_shares_count_what_was_observed_by_then_whatever_arrived_when(one_partition: Line, delay: int) -> None:
    """All labels come first, long before they were observed: the shares are those of the definition all the same."""
    line, (bodies, labels) = one_partition, world()
    settings = {"features.label_delay_days": delay}
    line.append("labels", labels)
    line.append("flows.bound", bodies)
    line.work(WORKER, settings=settings)
    assert shares(line) == expected_shares(bodies, labels, delay)
    assert any(share not in (0.0, 1.0) for three in shares(line).values() for share in three)


def test_a_fed_world_waits_for_the_marks_of_its_truth(one_partition: Line) -> None:
    """Traffic far ahead of the truth feed, rounds of labels and marks dripping in, a new process each time: vectors are
    given up to the mark and not beyond, and they are those of the definition."""
    line, (bodies, labels) = one_partition, world()
    line.append(TRUTH, [mark(at(0))], key=lambda _: "mark-0")
    line.append("flows.bound", bodies)
    for until in range(0, 121 * 3 * HOUR, 50 * HOUR):
        line.append("labels", [one for one in labels if at(until - 50 * HOUR) < one["observed_time"] <= at(until)])
        line.append("labels", [mark(at(until))], key=lambda _: "mark-0")
        line.work(WORKER, settings={**DELAY, "loop.batch_records_max": 7})
        assert set(shares(line)) == {b["flow_id"] for b in bodies if b["occurred_at"] <= at(until)}
    rest = [one for one in labels if one["observed_time"] > at(until)]
    line.append("labels", [*rest, mark(*AFTER_EVERYTHING, reason="end_of_world")], key=lambda _: "mark-0")
    line.work(WORKER, settings=DELAY)
    assert shares(line) == expected_shares(bodies, labels, 1)
    ((ledger,),) = line.sql("select count(*) from ofp.labels where state = 'APPLIED'")
    assert ledger == len(labels)


def test_a_mark_within_an_instant_does_not_cover_it(one_partition: Line) -> None:
    """A mark behind some labels of a second covers the seconds before; a flow of that second waits for the next mark."""
    line = one_partition
    line.append("labels", [mark(at(5), 3)], key=lambda _: "mark-0")
    line.append("flows.bound", [bound(4), bound(5)])
    line.work(WORKER)
    assert set(shares(line)) == {"f4"}


def test_who_has_no_truth_feed_waits_for_nothing(one_partition: Line) -> None:
    """Live flows, and flows of a world whose truth left no mark on the bus, go by what is known."""
    line = one_partition
    pass_mark(line, 2)
    live = bound(90, world=None, scenario_run_id="b" * 32)
    other = bound(91, scenario_run_id="c" * 32)
    line.append("flows.bound", [bound(1), live, other, bound(7)])
    line.work(WORKER)
    assert set(shares(line)) == {"f1", "f90", "f91"}


def test_the_bus_may_stand_on_another_server(one_partition: Line) -> None:
    """With the bus under a connection of its own a fed world waits as well, and an unfed one does not."""
    line = one_partition
    elsewhere = Database(DsnSource(f"BUS {line.dsn}", lambda: line.dsn), line.database.options)
    context = replace(line.context_for(WORKER), bus=PostgresBus(elsewhere.scope), same_server=False)
    plane = list(WORKER.build(context))
    line.append(TRUTH, [mark(at(0))], key=lambda _: "mark-0")
    line.append("flows.bound", [bound(8, scenario_run_id="c" * 32), bound(1)])
    line.drain(plane)
    assert set(shares(line)) == {"f8"}
    pass_mark(line, 5)
    line.drain(plane)
    assert set(shares(line)) == {"f8", "f1"}


def test_another_run_of_the_same_world_waits_for_marks_of_its_own(one_partition: Line) -> None:
    """Marks belong to a run: those of the run before release nothing."""
    line, other = one_partition, "platform_20260102T000000Z"
    pass_mark(line, 50)
    line.append(TRUTH, [mark(at(0), run=other)], key=lambda _: "mark-0")
    line.append("flows.bound", [bound(1), bound(2, run=other)])
    line.work(WORKER)
    assert set(vectors(line)) == {(RUN, "f1")}
    line.append("labels", [mark(at(9), run=other)], key=lambda _: "mark-0")
    line.work(WORKER)
    assert set(vectors(line)) == {(RUN, "f1"), (other, "f2")}


def test_labels_twice_wrong_or_of_unknown_flows_are_accounted_for(one_partition: Line) -> None:
    """A repeat enters once, a broken one becomes a dead letter, one of another type or of a flow without a terminal is
    not counted, one of a flow that never comes waits; each stands in the ledger under its name."""
    line = one_partition
    told = [
        label(1, observed=1),
        label(1, observed=1),
        label(2, observed=1, type="account_takeover"),
        label(9, observed=1),
    ]
    line.append("flows.bound", [bound(1), bound(2), bound(3, terminal_id=None, merchant_id=None)])
    line.append("labels", [*told, label(3, observed=2), {**label(4, observed=1), "value": None}, {"label_id": "x"}])
    line.work(WORKER)
    line.append("labels", told)
    line.work(WORKER)
    found = line.sql("select flow_id, state from ofp.labels order by flow_id")
    assert found == [("f1", "APPLIED"), ("f2", "NOT_COUNTED"), ("f3", "NO_PLACE"), ("f9", "WAITING")]
    assert line.sql("select count(*) from dead_letters.letters where topic = 'labels'") == [(2,)]


def closes_the_loop(line: Line) -> list[list[float]]:
    """Shares of a terminal's next transaction before a person says fraud, after it, and after a second person clears it."""
    settings = {"features.label_delay_days": 0}
    seen = []
    plane = line.activities(WORKER, settings=settings)
    person = {"source": "HUMAN", "observed": 10**8}  # people live years after the world they look at
    for n, told in enumerate(
        (
            [],
            [label(0, **person)],
            [label(0, **person, value="LEGIT") | {"label_id": "z", "observed_time": at(10**8 + 1)}],
        )
    ):
        line.append("labels", told)
        line.append("flows.bound", [bound(2 * n), bound(2 * n + 1)])
        line.drain(plane)
        seen.append(shares(line)[f"f{2 * n}"])
    return seen


def test_a_disposition_reaches_the_next_transaction_of_its_terminal(one_partition: Line) -> None:
    """At delay 0 the fraud share shows what a person decided, at once, over what the feed said; a correction as well."""
    one_partition.append("labels", [label(0, observed=1, value="LEGIT")])
    assert closes_the_loop(one_partition) == [[0.0] * 3, [1 / 2] * 3, [0.0] * 3]


def test_a_plane_that_ignores_labels_is_seen(one_partition: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red counterpart: labels are read and the checkpoint moves, but nothing is taken in; loop and shares say so."""

    def ignore(_self: Labels, _records: Any, _unit: UnitOfWork, _windows: Any) -> None:
        """Nothing."""

    monkeypatch.setattr(Labels, "take_in", ignore)
    line, (bodies, labels) = one_partition, world()
    assert closes_the_loop(line) == [[0.0] * 3] * 3
    line.append("labels", labels)
    line.append("flows.bound", bodies[6:])
    line.work(WORKER, settings=DELAY)
    assert shares(line) != expected_shares(bodies, labels, 1)
    assert line.sql("select count(*) from ofp.labels") == [(0,)]


def test_labels_survive_whatever_is_dropped(one_partition: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed step in the middle, a cache too small for one batch, and everything read again: equal shares."""
    line, (bodies, labels) = one_partition, world()
    settings = {**DELAY, "features.cached_entries_max": 1000, "loop.batch_records_max": 10}
    line.append("labels", labels[:20])
    line.append("flows.bound", bodies)
    plane = line.activities(WORKER, settings=settings)
    plane[0].step()
    with monkeypatch.context() as broken:
        broken.setattr(feature_labels, "place", lambda *_: 1 / 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                plane[0].step()
            plane[0].forget()
    line.append("labels", labels[20:])
    line.drain(plane)
    line.fresh_checkpoints()
    line.work(WORKER, settings=settings)
    wrong = [one for one in shares(line).items() if one[1] != expected_shares(bodies, labels, 1)[one[0]]]
    assert wrong == []
