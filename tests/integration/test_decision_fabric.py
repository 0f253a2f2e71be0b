"""decision_fabric: every bound flow is decided exactly once, under the posture in force, by the policy of the file."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraud_daemons.domain.policy import Evaluation
from fraud_daemons.domain.stand_in import STAND_IN
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.decision_lane.decision_fabric import WORKER
from tests.integration.lane import bind, featured, flow, pin
from tests.line import ROOT, Line
from tests.unit.test_baseline_policy import CASES

LABEL_POLICY = """
policy_id = "leaky"
revision = 1
[thresholds]
step_up = 30
review = 60
block = 100
[[rules]]
id = "peeks"
reason = "reads the answer"
weight = 100
when = { field = "is_fraud", op = "==", value = 1 }
"""


def decided(line: Line) -> dict[str, tuple[str, str]]:
    """flow_id -> (feature status, outcome) as stored."""
    rows = line.sql("select flow_id, feature_status, outcome from df.decisions")
    return {flow_id: (status, outcome) for flow_id, status, outcome in rows}


def crafted(line: Line) -> None:
    """Each rule's record and its neighbour, as flows of their own."""
    bodies: list[dict[str, Any]] = []
    for rule_id, pair in CASES.items():
        for kind, record in zip(("hit", "miss"), pair, strict=True):
            flow_id = f"{rule_id}:{kind}"
            bodies.append({**record, "flow_id": flow_id, "traffic": {**record["traffic"], "flow_id": flow_id}})
    places = line.append("flows.bound", bodies)
    line.append("flows.featured", [{**b, "bound_position": list(p or ())} for b, p in zip(bodies, places, strict=True)])


def each_rule_fires_on_its_record_and_not_on_the_neighbour(line: Line) -> None:
    """The fact of the issue's table, asked of the published decisions."""
    reasons = {body["flow_id"]: {r["rule_id"] for r in body["reasons"]} for body in line.bodies("decisions")}
    for rule_id in CASES:
        assert rule_id in reasons.get(f"{rule_id}:hit", set()), f"{rule_id} did not fire"
        assert rule_id not in reasons.get(f"{rule_id}:miss", {rule_id}), f"{rule_id} fired on the neighbour"


def every_bound_flow_is_decided_exactly_once(line: Line) -> None:
    """Bound flows, stored decisions and published decisions are the same set, each once."""
    bound = {body["flow_id"] for body in line.bodies("flows.bound")}
    published = [body["flow_id"] for body in line.bodies("decisions")]
    assert sorted(published) == sorted(bound)
    assert set(decided(line)) == bound


def test_each_rule_fires_on_its_record_and_not_on_the_neighbour(line: Line) -> None:
    """The policy of the file decides, rule by rule; intents follow the outcome."""
    crafted(line)
    line.work(WORKER)
    each_rule_fires_on_its_record_and_not_on_the_neighbour(line)
    every_bound_flow_is_decided_exactly_once(line)
    asked = {intent["intent_id"] for intent in line.bodies("action_intents")}
    assert asked == {i for decision in line.bodies("decisions") for i in decision["intents"]}
    assert asked


def test_advancing_the_checkpoint_only_turns_the_fact_red(line: Line) -> None:
    """A pass-through decides nothing, and the fact says so."""
    crafted(line)
    line.drain(line.pass_through(WORKER))
    with pytest.raises(AssertionError):
        each_rule_fires_on_its_record_and_not_on_the_neighbour(line)


def test_constant_allow_turns_the_fact_red(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that decides every flow once and always ALLOW is not honest, and the fact says so."""
    crafted(line)
    monkeypatch.setattr("fraud_daemons.domain.decisions.evaluate", lambda *_: Evaluation("ALLOW", 0, ()))
    line.work(WORKER)
    every_bound_flow_is_decided_exactly_once(line)
    with pytest.raises(AssertionError, match="did not fire"):
        each_rule_fires_on_its_record_and_not_on_the_neighbour(line)


def test_a_decision_carries_where_it_comes_from_and_is_stored_as_published(line: Line) -> None:
    """The stored bytes are the published bytes, with source, policy, posture and both ends of the latency."""
    [record] = bind(line, [flow(1)])
    line.append("flows.featured", [record])
    line.work(WORKER)
    [published] = line.records("decisions")
    [(stored, digest)] = line.sql("select body, core_digest from df.decisions")
    assert bytes(stored) == published.body
    [body] = line.bodies("decisions")
    place = line.records("flows.featured")[0]
    assert body["sources"]["decided_from"] == ["flows.featured", place.partition, place.position]
    assert body["core_digest"] == digest
    assert len(body["policy"]["digest"]) == 64
    assert body["posture"] == {"mode": "NORMAL", "sequence": 0}
    assert (body["admitted_at"], body["decided_at"]) == (1.5, "2026-01-01T00:00:00.000000Z")
    assert body["feature_status"] == "PRESENT"
    assert body["snapshot_hash"] == record["snapshot_hash"]


def test_a_batch_that_comes_again_publishes_nothing_twice(line: Line) -> None:
    """Reading everything again from position 0 meets the same ids: nothing new, all counted as repeats."""
    line.append("flows.featured", bind(line, [flow(n, traffic={"amount_minor": 500_000}) for n in range(30)]))
    line.work(WORKER)
    before = [line.records(topic) for topic in ("decisions", "action_intents")]
    assert len(before[0]) == 30
    assert before[1]
    line.fresh_checkpoints()
    line.work(WORKER)
    assert [line.records(topic) for topic in ("decisions", "action_intents")] == before
    assert line.sql("select sum(repeats) from df.repeats where topic = 'flows.featured'") == [(30,)]
    assert line.sql("select count(*) from df.conflicts") == [(0,)]


def test_the_same_flow_with_another_content_is_an_anomaly(line: Line) -> None:
    """The first decision stands; the other content is kept beside it and never acted on."""
    [record] = bind(line, [flow(1)])
    line.append("flows.featured", [record, {**record, "traffic": {**record["traffic"], "amount_minor": 999_999}}])
    line.work(WORKER)
    assert decided(line) == {"flow1": ("PRESENT", "ALLOW")}
    assert line.sql("select flow_id from df.conflicts") == [("flow1",)]
    assert line.bodies("action_intents") == []


@pytest.mark.parametrize("mode", ["DEGRADED_2", "FAIL_CLOSED"])
def test_without_features_it_decides_from_the_bound_record_and_a_later_vector_changes_nothing(
    line: Line, mode: str
) -> None:
    """ABSENT from flows.bound; the featured records that come later are kept as late and nothing is published."""
    pin(line, mode)
    activities = line.activities(WORKER)
    later = bind(line, [flow(n) for n in range(12)])
    line.drain(activities)
    assert {status for status, _ in decided(line).values()} == {"ABSENT"}
    before = (
        line.records("decisions"),
        line.records("action_intents"),
        line.sql("select * from df.decisions order by 1, 2"),
    )
    line.append("flows.featured", later)
    line.drain(activities)
    pin(line, "RELEASED")
    line.drain(activities)
    after = (
        line.records("decisions"),
        line.records("action_intents"),
        line.sql("select * from df.decisions order by 1, 2"),
    )
    assert after == before
    assert line.sql("select count(*), count(snapshot_hash) from df.late_features") == [(12, 12)]
    assert line.sql("select count(*) from df.conflicts") == [(0,)]
    every_bound_flow_is_decided_exactly_once(line)


def test_a_posture_that_falls_and_rises_decides_every_flow_once(line: Line) -> None:
    """Bound records without features when the posture falls are decided; their vectors are late when it has risen."""
    activities = line.activities(WORKER)
    first = bind(line, [flow(n, cards=1) for n in range(10)])
    line.append("flows.featured", first[:6])
    line.drain(activities)
    pin(line, "DEGRADED_2")
    line.drain(activities)
    assert sorted(f for f, (status, _) in decided(line).items() if status == "ABSENT") == [
        "flow6",
        "flow7",
        "flow8",
        "flow9",
    ]
    pin(line, "NORMAL")
    second = bind(line, [flow(n, cards=1) for n in range(10, 15)])
    line.append("flows.featured", first[6:] + second)
    line.drain(activities)
    every_bound_flow_is_decided_exactly_once(line)
    assert all(decided(line)[f"flow{n}"][0] == "PRESENT" for n in range(10, 15))
    assert line.sql("select count(*) from df.late_features") == [(4,)]
    assert line.sql("select count(*) from df.repeats") == [(0,)]  # the bound position followed what was decided


def test_vectors_waiting_unread_when_the_posture_falls_are_not_used(line: Line) -> None:
    """Both records of a flow are there unread: it is decided once, without features."""
    line.append("flows.featured", bind(line, [flow(n) for n in range(20)]))
    pin(line, "DEGRADED_2")
    line.work(WORKER)
    every_bound_flow_is_decided_exactly_once(line)
    assert {status for status, _ in decided(line).values()} == {"ABSENT"}


def test_a_bound_record_that_the_feature_plane_set_aside_is_decided_without_features(line: Line) -> None:
    """A gap in the bound positions is a flow without a vector: decided in its place, from the bus."""
    records = bind(line, [flow(n, cards=1) for n in range(6)])
    line.append("flows.featured", [records[n] for n in (1, 2, 5)])
    line.work(WORKER)
    every_bound_flow_is_decided_exactly_once(line)
    assert {f for f, (status, _) in decided(line).items() if status == "ABSENT"} == {"flow0", "flow3", "flow4"}
    assert [body["flow_id"] for body in line.bodies("decisions")] == [f"flow{n}" for n in range(6)]


def test_a_gap_that_is_poison_is_set_aside_alone(line: Line) -> None:
    """What stopped the feature plane stops us too, but only for that one record."""
    records = bind(line, [flow(0, cards=1), flow(1, cards=1, occurred_at="yesterday"), flow(2, cards=1)])
    line.append("flows.featured", [records[0], records[2]])
    line.work(WORKER)
    assert set(decided(line)) == {"flow0", "flow2"}
    assert line.sql("select worker, topic, event_id from dead_letters.letters") == [
        ("decision_fabric", "flows.bound", "flow1")
    ]


def test_a_gap_at_the_end_of_the_topic_is_found_in_the_dead_letters(line: Line) -> None:
    """The last bound records never got vectors: an idle step decides what is whole, once, and sets the rest aside, once."""
    records = bind(line, [flow(0, cards=1), flow(1, cards=1), flow(2, cards=1, occurred_at="yesterday")])
    line.append("flows.featured", records[:1])
    for bound in line.records("flows.bound")[1:]:
        line.sql(
            'insert into dead_letters.letters (worker, topic, "partition", "position", platform_run_id, event_id, record_key,'
            " reason, detail, body, dead_at) values ('online_feature_plane', %s, %s, %s, %s, %s, %s, '', '', %s, now())",
            (
                bound.topic,
                bound.partition,
                bound.position,
                bound.platform_run_id,
                bound.event_id,
                bound.key,
                bound.body,
            ),
        )
    activities = line.activities(WORKER)
    for _ in range(3):
        line.drain(activities)
    assert [body["flow_id"] for body in line.bodies("decisions")] == ["flow0", "flow1"]
    assert decided(line)["flow1"] == ("ABSENT", "ALLOW")
    assert line.sql("select event_id from dead_letters.letters where worker = 'decision_fabric'") == [("flow2",)]
    assert line.sql("select count(*) from df.repeats") == [(0,)]


def test_a_broken_vector_is_set_aside_and_its_flow_decided_without(line: Line) -> None:
    """The featured record goes to the dead letters; its bound record is whole, so the flow is decided all the same."""
    records = bind(line, [flow(n, cards=1) for n in range(9)])
    del records[4]["traffic"]
    line.append("flows.featured", records)
    line.work(WORKER)
    every_bound_flow_is_decided_exactly_once(line)
    assert {f for f, (status, _) in decided(line).items() if status == "ABSENT"} == {"flow4"}
    assert line.sql("select topic, event_id from dead_letters.letters") == [("flows.featured", "flow4")]


@pytest.mark.parametrize("seed", range(4))
def test_every_flow_is_decided_once_whatever_happens_when(line: Line, seed: int) -> None:
    """Binding, vectors with gaps, posture changes, restarts and repeated reading in any order: one decision per flow."""
    dice = random.Random(seed)
    activities = line.activities(WORKER, settings={"loop.batch_records_max": 7})
    waiting: list[dict[str, Any]] = []
    made = 0
    for _ in range(60):
        match dice.choice(("bind", "bind", "feature", "feature", "step", "step", "step", "pin", "restart", "again")):
            case "bind":
                more = dice.randrange(1, 6)
                waiting += bind(line, [flow(n) for n in range(made, made + more)])
                made += more
            case "feature":
                some = dice.randrange(0, len(waiting) + 1)
                line.append("flows.featured", [record for record in waiting[:some] if dice.random() > 0.1])
                waiting = waiting[some:]
            case "step":
                activities[0].step()
            case "pin":
                pin(line, dice.choice(("DEGRADED_2", "RELEASED", "NORMAL", "FAIL_CLOSED")))
            case "restart":
                activities = line.activities(WORKER, settings={"loop.batch_records_max": 7})
            case "again" if dice.random() < 0.3:
                line.fresh_checkpoints()
                activities = line.activities(WORKER, settings={"loop.batch_records_max": 7})
    line.append("flows.featured", waiting)
    line.drain(activities)
    pin(line, "DEGRADED_2")  # a gap at the very end waits for a posture without features
    line.drain(activities)
    every_bound_flow_is_decided_exactly_once(line)
    assert line.sql("select count(*) from df.conflicts") == [(0,)]


def test_the_profile_pins_before_the_operator_and_the_operator_before_the_ladder(line: Line) -> None:
    """One order of who decides about the posture, and a release gives it back."""

    def posture_of(number: int, settings: dict[str, Any] | None = None) -> tuple[str, int]:
        line.append("flows.featured", bind(line, [flow(number)]))
        line.work(WORKER, settings=settings)
        [row] = line.sql(
            "select posture_mode, posture_sequence from df.decisions where flow_id = %s", (f"flow{number}",)
        )
        return row

    assert posture_of(0) == ("NORMAL", 0)
    line.sql("insert into dl.postures (mode, reason, stepped_at) values ('DEGRADED_1', 'lag', now())")
    assert posture_of(1) == ("DEGRADED_1", 1)
    pin(line, "NORMAL")
    pin(line, "FAIL_CLOSED")
    assert posture_of(2) == ("FAIL_CLOSED", 2)
    assert posture_of(3, {"decision.posture_pin": "NORMAL"}) == ("NORMAL", 0)
    pin(line, "RELEASED")
    assert posture_of(4) == ("DEGRADED_1", 1)


@pytest.mark.parametrize("policy", ["leaky", "nowhere", "../leaky", "broken"])
def test_a_policy_that_cannot_be_used_decides_nothing(line: Line, tmp_path: Path, policy: str) -> None:
    """A rule that reads a label, a missing and a broken file: the stand-in decides, under FAIL_CLOSED whatever is pinned,
    and nothing is allowed; from the moment a good policy is there it decides, without a restart."""
    folder = tmp_path / "config" / "policies"
    folder.mkdir(parents=True)
    (folder / "leaky.toml").write_text(LABEL_POLICY)
    (folder / "broken.toml").write_text("policy_id = ")
    context = line.context_for(WORKER)
    values = {**context.profile.values, "decision.policy": policy, "decision.posture_pin": "NORMAL"}
    context = replace(context, profile=replace(context.profile, root=tmp_path, values=values))
    activities = list(decision_fabric.build(context))
    line.append("flows.featured", bind(line, [flow(1), flow(2, traffic={"amount_minor": 600_000})]))
    line.drain(activities)
    rows = line.sql("select policy_id, policy_digest, posture_mode, outcome from df.decisions order by flow_id")
    assert rows == [
        ("stand_in", STAND_IN.digest, "FAIL_CLOSED", "REVIEW"),
        ("stand_in", STAND_IN.digest, "FAIL_CLOSED", "BLOCK"),
    ]
    if not policy.isalpha():
        return  # such a name can never be mended by a file
    shutil.copy(ROOT / "config" / "policies" / "baseline.toml", folder / f"{policy}.toml")
    line.clock.advance(1.0)
    line.append("flows.featured", bind(line, [flow(3)]))
    line.drain(activities)
    assert line.sql("select policy_id, posture_mode, outcome from df.decisions where flow_id = 'flow3'") == [
        ("baseline", "NORMAL", "ALLOW")
    ]


def test_featured_records_whose_bound_records_are_not_on_the_bus_are_decided(line: Line) -> None:
    """A topic that was trimmed or filled by hand: what is missing is not waited for."""
    line.append("flows.featured", [featured(flow(1, cards=1), (0, 7)), featured(flow(2, cards=1), (0, 8))])
    line.work(WORKER)
    assert set(decided(line)) == {"flow1", "flow2"}
