"""decision_log_audit: one chain per decision, closed in whatever order its parts come, and sealed into linked objects."""

from __future__ import annotations

import hashlib
import random
import uuid
from typing import Any

import orjson
import pytest

from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.workers.decision_lane.action_layer import WORKER as ACTION_LAYER
from fraud_daemons.workers.decision_lane.decision_fabric import WORKER as DECISION_FABRIC
from fraud_daemons.workers.decision_lane.decision_log_audit import WORKER
from tests.integration.lane import bind, flow
from tests.line import Line

FLOWS = 24


@pytest.fixture
def lane(line: Line) -> Line:
    """A line with a run of its own, since the object store outlives a test, and with decisions and outcomes on it."""
    line.run = f"platform_{uuid.uuid4().hex[:8]}"
    amounts = (2_500, 30_000, 65_000, 600_000)
    bodies = [
        flow(n, platform_run_id=line.run, traffic={"amount_minor": amounts[n % len(amounts)]}) for n in range(FLOWS)
    ]
    line.append("flows.featured", bind(line, bodies))
    line.work(DECISION_FABRIC)
    line.work(ACTION_LAYER)
    assert line.records("action_outcomes")
    return line


def rebuilt(store: EvidenceStore, run: str) -> dict[str, tuple[Any, ...]]:
    """The chains of a run from its audit objects alone, having checked that the objects are linked and untouched."""
    chains: dict[str, tuple[Any, ...]] = {}
    newest: dict[int, str] = {}
    for found in store.list(f"{run}/dla/audit/"):
        body = store.get(found.key)
        sha256 = hashlib.sha256(body).hexdigest()
        segment = orjson.loads(body)
        assert found.key.endswith(f"-{sha256[:16]}.json"), "an object is not what its key says"
        assert segment["previous_sha256"] == newest.get(segment["partition"], ""), "a link is missing"
        newest[segment["partition"]] = sha256
        for chain in segment["records"]:
            assert chain["chain_id"] not in chains, "a chain was sealed twice"
            statuses = [outcome["status"] for outcome in chain["outcomes"]]
            names = ("decision_id", "flow_id", "core_digest", "outcome", "intents", "closed_at")
            chains[chain["chain_id"]] = (*(chain[name] for name in names), statuses)
    return chains


def index(line: Line) -> dict[str, tuple[Any, ...]]:
    """The closed chains of the index."""
    rows = line.sql(
        "select chain_id, decision_id, flow_id, core_digest, outcome, intents,"
        " to_char(closed_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), statuses from dla.chains"
        " where platform_run_id = %s and state = 'CLOSED'",
        (line.run,),
    )
    return {row[0]: row[1:] for row in rows}


def chains_from_the_objects_equal_the_index(line: Line, *, open_chains: int = 0) -> None:
    """The fact: what the objects alone say is what the index says, and nothing is missing but what is open."""
    from_objects = rebuilt(line.make_store(), line.run)
    assert from_objects == index(line)
    decisions = {body["decision_id"] for body in line.bodies("decisions")}
    assert len(decisions) == FLOWS
    assert len(from_objects) == len(decisions) - open_chains


def work(line: Line) -> None:
    """Drain index and sealer, which here seals what there is at once."""
    line.work(WORKER, settings={"evidence.linger_seconds": 0.0})


def test_chains_rebuilt_from_the_objects_equal_the_index(lane: Line) -> None:
    """Every decision has its closed chain with the statuses of its intents, in the index and in the objects."""
    work(lane)
    chains_from_the_objects_equal_the_index(lane)
    statuses = {body["intent_id"]: body["status"] for body in lane.bodies("action_outcomes")}
    for _, _, _, _, intents, _, seen in index(lane).values():
        assert [statuses[intent] for intent in intents] == seen
    assert lane.sql("select count(*) from dla.chains where intents_expected <> outcomes_seen") == [(0,)]


def test_advancing_the_checkpoint_only_turns_the_fact_red(lane: Line) -> None:
    """A pass-through closes nothing, and the fact says so."""
    lane.drain(lane.pass_through(WORKER))
    with pytest.raises(AssertionError):
        chains_from_the_objects_equal_the_index(lane)


def test_counting_without_chaining_turns_the_fact_red(lane: Line) -> None:
    """An index that is right and no objects behind it: the chains cannot be rebuilt, and the fact says so."""
    lane.drain(lane.activities(WORKER)[:1])
    assert len(index(lane)) == FLOWS
    with pytest.raises(AssertionError):
        chains_from_the_objects_equal_the_index(lane)


def test_a_withheld_outcome_leaves_exactly_its_chain_open(lane: Line) -> None:
    """One outcome is kept back: that chain is open and says what it waits for; when it comes the chain closes."""
    withheld = lane.bodies("action_outcomes")[1]  # not the first: that would read as trimmed away
    lane.sql(
        "update bus.log set topic = 'withheld' where topic = 'action_outcomes' and event_id = %s",
        (withheld["intent_id"],),
    )
    work(lane)
    assert lane.sql("select decision_id from dla.chains where state = 'OPEN'") == [(withheld["decision_id"],)]
    chains_from_the_objects_equal_the_index(lane, open_chains=1)
    lane.append("action_outcomes", [withheld])
    work(lane)
    chains_from_the_objects_equal_the_index(lane)


@pytest.mark.parametrize("seed", range(3))
def test_chains_close_in_whatever_order_their_parts_come(lane: Line, seed: int) -> None:
    """Outcomes before their decisions, in batches of three, with restarts: the same chains."""
    dice = random.Random(seed)
    parts = [("decisions", body) for body in lane.bodies("decisions")]
    parts += [("action_outcomes", body) for body in lane.bodies("action_outcomes")]
    lane.sql("delete from bus.log where topic in ('decisions', 'action_outcomes')")
    lane.sql("update bus.heads set next_position = 0 where topic in ('decisions', 'action_outcomes')")
    dice.shuffle(parts)
    activities = lane.activities(WORKER)
    for start in range(0, len(parts), 3):
        for topic, body in parts[start : start + 3]:
            lane.append(topic, [body])
        if dice.random() < 0.3:
            activities = lane.activities(WORKER)
        lane.drain(activities[:1])
    work(lane)
    chains_from_the_objects_equal_the_index(lane)


def test_a_batch_that_comes_again_closes_nothing_twice(lane: Line) -> None:
    """Reading everything again publishes no chain and writes no object."""
    work(lane)
    before = lane.records("audit_chains"), list(lane.make_store().list(f"{lane.run}/dla/audit/")), index(lane)
    lane.sql("delete from checkpoints.positions where worker = 'decision_log_audit'")
    lane.clock.advance(3600)
    work(lane)
    after = lane.records("audit_chains"), list(lane.make_store().list(f"{lane.run}/dla/audit/")), index(lane)
    assert after == before
    repeats = len(lane.records("decisions")) + len(lane.records("action_outcomes"))
    assert lane.sql("select sum(repeats) from dla.repeats") == [(repeats,)]
    assert lane.sql("select count(*) from dla.conflicts") == [(0,)]


def test_other_content_under_a_known_id_is_an_anomaly(lane: Line) -> None:
    """A decision with another digest and an outcome with another status are kept beside their chains."""
    work(lane)
    before = index(lane)
    decision = {**lane.bodies("decisions")[0], "core_digest": "f" * 64}
    outcome = {**lane.bodies("action_outcomes")[0], "status": "DENIED"}
    lane.append("decisions", [decision])
    lane.append("action_outcomes", [outcome])
    work(lane)
    assert index(lane) == before
    assert lane.sql("select topic, record_id from dla.conflicts order by 1") == [
        ("action_outcomes", outcome["intent_id"]),
        ("decisions", decision["decision_id"]),
    ]


def test_poison_is_set_aside_alone(lane: Line) -> None:
    """A decision whose intents are no list goes to the dead letters; every other chain closes."""
    broken = {**lane.bodies("decisions")[0], "decision_id": "d" * 32, "intents": "none"}
    lane.append("decisions", [broken])
    work(lane)
    assert lane.sql("select event_id from dead_letters.letters") == [("d" * 32,)]
    assert len(index(lane)) == FLOWS
