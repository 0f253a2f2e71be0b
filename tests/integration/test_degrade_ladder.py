"""degrade_ladder on a real database: each fault brings the posture down within 2 s to its rung, decisions go on and say
so, and the posture climbs back after the quiet period."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.domain.posture import LADDER
from fraud_daemons.runtime.activity import Activity, Outcome, PlainActivity
from fraud_daemons.workers.decision_lane import _store_probe, decision_fabric, degrade_ladder
from fraud_daemons.workers.decision_lane.degrade_ladder import WORKER, DegradeLadder
from fraud_daemons.workers.rtdl_core import online_feature_plane
from tests.integration.lane import bind, flow, pin
from tests.line import Line

LOOK = 0.25
FALL_SECONDS = 2.0
QUIET_SECONDS = 10.0


class Health:
    """The parts of a ladder that a test makes ill: what the store's probe says, and the policy file."""

    def __init__(self, line: Line, root: Path) -> None:
        self.store: str | None = None
        self.policy = root / "config" / "policies" / "p.toml"
        self.policy.parent.mkdir(parents=True)
        self.policy.write_text(GOOD)
        context = line.context_for(WORKER)
        values = {**context.profile.values, "decision.policy": "p"}
        self.context = replace(context, profile=replace(context.profile, root=root, values=values))
        self.line = line

    def ladder(self, *follow: str) -> DegradeLadder:
        return DegradeLadder(self.context, follow=follow or ("features", "graph"), probe=lambda: self.store)


GOOD = """
policy_id = "p"
revision = 1
thresholds = { step_up = 30, review = 60, block = 100 }
rules = [{ id = "large", reason = "large", weight = 100, stand_in = true, when = { field = "amount_minor", op = ">", value = 50000 } }]
"""


@pytest.fixture
def health(line: Line, tmp_path: Path) -> Health:
    return Health(line, tmp_path)


class ConstantNormal(PlainActivity):
    """The pass-through: a ladder that never looks."""

    def step(self) -> Outcome:
        return Outcome(rest_seconds=LOOK)


def watch(line: Line, ladder: Activity, seconds: float) -> None:
    """Looks for as long, at the ladder's own interval."""
    for _ in range(int(seconds / LOOK)):
        line.clock.advance(LOOK)
        ladder.step()


def posture(line: Line) -> str:
    rows = line.sql("select mode from dl.postures order by sequence desc limit 1")
    return rows[0][0] if rows else "NORMAL"


def break_features(health: Health) -> None:
    bind(health.line, [flow(1), flow(2)])  # bound, and nobody makes features of them
    health.line.sql(
        'insert into checkpoints.positions (worker, topic, "partition", "position", epoch)'
        " select 'identity_entity_graph', topic, \"partition\", next_position, 1 from bus.heads where topic = 'flows.bound'"
        " on conflict do nothing"
    )


def mend_features(health: Health) -> None:
    health.line.work(online_feature_plane.WORKER)


def break_graph(health: Health) -> None:
    bind(health.line, [flow(1), flow(2)])
    health.line.work(online_feature_plane.WORKER)


def mend_graph(health: Health) -> None:
    health.line.sql(
        'insert into checkpoints.positions (worker, topic, "partition", "position", epoch)'
        " select 'identity_entity_graph', topic, \"partition\", next_position, 1 from bus.heads where topic = 'flows.bound'"
    )


def break_store(health: Health) -> None:
    health.store = "the object store gives no answer within 0.4 s"


def mend_store(health: Health) -> None:
    health.store = None


def break_policy(health: Health) -> None:
    health.policy.write_text("policy_id = ")


def mend_policy(health: Health) -> None:
    health.policy.write_text(GOOD)


FAULTS: list[tuple[Any, Any, str, str]] = [
    (break_features, mend_features, "DEGRADED_2", "features"),
    (break_graph, mend_graph, "DEGRADED_1", "graph"),
    (break_store, mend_store, "DEGRADED_1", "store"),
    (break_policy, mend_policy, "FAIL_CLOSED", "policy"),
]


def it_falls_and_climbs_back(health: Health, ladder: Activity, fault: tuple[Any, Any, str, str]) -> None:
    """The fact of the issue's table, for one fault."""
    line = health.line
    make_ill, mend, rung, signal = fault
    watch(line, ladder, 5.0)
    assert posture(line) == "NORMAL"
    make_ill(health)
    watch(line, ladder, FALL_SECONDS)
    assert posture(line) == rung
    [(reason, ill, sequence)] = line.sql("select reason, signals -> %s ->> 'ill', sequence from dl.postures", (signal,))
    assert reason.startswith(f"{signal}: ")
    assert ill == "true"
    assert sequence == 1
    watch(line, ladder, 2 * QUIET_SECONDS)
    assert posture(line) == rung, "still ill"
    mend(health)
    watch(line, ladder, QUIET_SECONDS - 1)
    assert posture(line) == rung, "the quiet period is not over"
    watch(line, ladder, 2.0)
    assert [row[0] for row in line.sql("select mode from dl.postures order by sequence")] == [rung, "NORMAL"]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[3] for fault in FAULTS])
def test_each_fault_brings_the_posture_down_and_it_climbs_back(
    health: Health, fault: tuple[Any, Any, str, str]
) -> None:
    """Stop the feature plane, the graph, freeze the store, make the policy unreadable: within 2 s on the stated rung, one
    row with reason and signals, and back by itself after the quiet period."""
    it_falls_and_climbs_back(health, health.ladder(), fault)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[3] for fault in FAULTS])
def test_constant_normal_turns_the_fact_red(health: Health, fault: tuple[Any, Any, str, str]) -> None:
    """A ladder that always says NORMAL fails every one of these facts."""
    with pytest.raises(AssertionError):
        it_falls_and_climbs_back(health, ConstantNormal(), fault)


def test_decisions_go_on_without_features_and_say_so(health: Health) -> None:
    """With the feature plane silent, decision_fabric decides from flows.bound under the ladder's posture; features that
    come later change nothing; after the climb decisions have features again."""
    line, ladder = health.line, health.ladder("features")
    decide = line.activities(decision_fabric.WORKER)
    ladder.step()
    bind(line, [flow(1), flow(2)])
    line.drain(decide)
    assert line.sql("select count(*) from df.decisions") == [(0,)]
    watch(line, ladder, FALL_SECONDS)
    line.drain(decide)
    assert line.sql(
        "select feature_status, posture_mode, posture_sequence, count(*) from df.decisions group by 1, 2, 3"
    ) == [("ABSENT", "DEGRADED_2", 1, 2)]
    line.work(online_feature_plane.WORKER)
    line.drain(decide)
    assert line.sql("select count(*) from df.late_features") == [(2,)]
    watch(line, ladder, QUIET_SECONDS + 1)
    bind(line, [flow(3)])
    line.work(online_feature_plane.WORKER)
    line.drain(decide)
    assert line.sql(
        "select feature_status, posture_mode, posture_sequence from df.decisions where flow_id = 'flow3'"
    ) == [("PRESENT", "NORMAL", 2)]


def test_a_stage_that_lags_and_moves_is_well(health: Health) -> None:
    """Every look finds more records waiting than the last; the plane takes one per look: no fall."""
    line, ladder = health.line, health.ladder("features")
    plane = line.activities(online_feature_plane.WORKER, settings={"loop.batch_records_max": 1})
    for number in range(40):
        bind(line, [flow(3 * number + extra) for extra in range(3)])
        for activity in plane:
            activity.step()
        line.clock.advance(LOOK)
        ladder.step()
    assert line.sql("select count(*) from dl.postures") == [(0,)]


def test_a_plane_that_never_ran_is_silent_as_well(health: Health) -> None:
    """No checkpoint at all, and records wait: that is no health."""
    bind(health.line, [flow(1)])
    watch(health.line, health.ladder("features"), FALL_SECONDS)
    assert posture(health.line) == "DEGRADED_2"


def test_a_restarted_ladder_goes_on_from_the_table(health: Health) -> None:
    """Killed on a rung: the new one neither repeats the row nor jumps up before the quiet period."""
    break_store(health)
    watch(health.line, health.ladder("features"), FALL_SECONDS)
    anew = health.ladder("features")
    watch(health.line, anew, 5.0)
    mend_store(health)
    watch(health.line, anew, QUIET_SECONDS + 1)
    assert [row[0] for row in health.line.sql("select mode from dl.postures order by sequence")] == [
        "DEGRADED_1",
        "NORMAL",
    ]


def test_the_pin_wins_and_the_ladder_goes_on_looking(health: Health) -> None:
    """A pinned NORMAL decides while the ladder stands on a rung; released, the rung counts."""
    line, ladder = health.line, health.ladder("features")
    decide = line.activities(decision_fabric.WORKER)
    pin(line, "NORMAL")
    break_store(health)
    watch(line, ladder, FALL_SECONDS)
    line.append("flows.featured", bind(line, [flow(1)]))
    line.drain(decide)
    pin(line, "RELEASED")
    line.append("flows.featured", bind(line, [flow(2)]))
    line.drain(decide)
    assert line.sql("select posture_mode from df.decisions order by flow_id") == [("NORMAL",), ("DEGRADED_1",)]


def test_a_worker_that_no_pack_names_is_not_followed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent by configuration is not ill: the ladder does not even ask."""
    line.ports = {"objectstore": 9}
    monkeypatch.setattr(degrade_ladder, "load_packs", lambda *_args, **_kw: ())
    [built] = line.activities(WORKER)
    assert isinstance(built, DegradeLadder)
    assert built._follow == ()


@pytest.fixture
def slow_store() -> Iterator[tuple[str, threading.Event]]:
    """An HTTP server that answers only while the event is set."""
    answering = threading.Event()
    answering.set()

    class Head(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answering.wait(5)
            with suppress(OSError):
                self.send_response(403)
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Head)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answering
    answering.set()
    server.shutdown()
    server.server_close()


def test_the_probe_of_the_store_never_waits(slow_store: tuple[str, threading.Event]) -> None:
    """A refusal is an answer; a frozen store is told within 0.4 s plus a look; its return ends that; a closed port is told."""
    from fraud_daemons.clock import SystemClock
    from tests.system.platform_under_test import wait_until

    endpoint, answering = slow_store
    probe = _store_probe.StoreProbe(endpoint, clock=SystemClock())
    assert probe() is None
    answering.clear()
    assert "no answer within" in str(wait_until(probe, seconds=3, what="the frozen store is told"))
    answering.set()
    wait_until(lambda: probe() is None, seconds=3, what="the store is well again")
    assert "ConnectionRefused" in str(_store_probe.ask("http://127.0.0.1:1"))


def test_rungs_of_the_profile_are_the_ladders() -> None:
    """The settings' words for rungs are the domain's."""
    from fraud_daemons.config.settings import RUNGS

    assert tuple(str(mode) for mode in LADDER) == RUNGS
