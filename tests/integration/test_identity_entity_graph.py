"""identity_entity_graph: entities and edges of every bound flow, each flow once; neighbours within bounds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from fraud_daemons.config.policies import read_policy
from fraud_daemons.domain.decisions import decide
from fraud_daemons.domain.graph import SCAN_MAX
from fraud_daemons.domain.posture import Mode, Posture
from fraud_daemons.state import graph
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core.identity_entity_graph import WORKER
from tests.bound_flows import bound, steps
from tests.handbook import ORACLE, handbook_bound, read_handbook
from tests.integration.lane import bind
from tests.line import ROOT, RUN, Line

Edges = dict[tuple[str, str], tuple[datetime, datetime, int]]


def edges_of(line: Line) -> Edges:
    """(card, other) -> (first seen, last seen, flows), as the tables hold them."""
    rows = line.sql("select card, entity, first_seen, last_seen, flows from ieg.edges")
    return {(card, entity): (first, last, flows) for card, entity, first, last, flows in rows}


def wanted_edges(bodies: list[Mapping[str, Any]]) -> Edges:
    """The card-terminal edges, recomputed from nothing but the records."""
    edges: Edges = {}
    for body in bodies:
        key = (f"card:{body['card_token']}", f"terminal:{body['terminal_id']}")
        at = datetime.fromisoformat(body["occurred_at"]).astimezone(UTC)
        first, last, flows = edges.get(key, (at, at, 0))
        edges[key] = (min(first, at), max(last, at), flows + 1)
    return edges


def wrong_edges(line: Line, day: list[Mapping[str, Any]]) -> list[str]:
    """What differs between the graph's edges and those of the day's transactions."""
    found, wanted = edges_of(line), wanted_edges(day)
    return [f"{key}: {found.get(key)} is not {wanted[key]}" for key in wanted if found.get(key) != wanted[key]] + [
        f"{key}: made up" for key in found if key not in wanted
    ]


@pytest.mark.skipif(not ORACLE.exists(), reason="the Handbook's files are not beside the project (../shared/data)")
def test_the_18th_of_july_has_its_edges(line: Line) -> None:
    """9,367 card-terminal edges whose counts sum to 9,530, first and last seen as recomputed; restart, 5 % repeats."""
    day = [handbook_bound(row) for row in read_handbook(date(2018, 7, 18), date(2018, 7, 18))]
    dice, stream = random.Random(18), []
    for body in day:
        stream.append(body)
        if dice.random() < 0.05:
            stream.append(dice.choice(stream[-200:]))
    line.append("flows.bound", stream)
    steps(line, line.activities(WORKER), len(stream) // 2)
    line.drain(line.activities(WORKER))  # a new process
    edges = edges_of(line)
    assert len(edges) == 9367
    assert sum(flows for _, _, flows in edges.values()) == 9530
    assert wrong_edges(line, day) == []
    assert line.sql("select version, repeats from ieg.versions") == [(9530, len(stream) - 9530)]
    # red: entities without edges
    with line.database.scope() as connection:
        connection.execute("truncate ieg.edges")
    assert len(wrong_edges(line, day)) == 9367


def test_a_graph_that_only_advances_is_seen(line: Line) -> None:
    """Red counterpart: with the pass-through the checkpoint moves and there is no edge."""
    day = [bound(n) for n in range(10)]
    line.append("flows.bound", day)
    line.drain(line.pass_through(WORKER))
    assert wrong_edges(line, [{**body, "terminal_id": body["terminal_id"]} for body in day])


def test_order_does_not_matter_and_a_conflict_is_kept_apart(line: Line) -> None:
    """Shuffled flows give the same edges; another record under a known flow is an anomaly and adds nothing."""
    day = [bound(n) for n in range(60)]
    shuffled = random.Random(7).sample(day, len(day))
    line.append("flows.bound", [*shuffled, {**day[3], "merchant_id": "elsewhere"}, day[4]])
    line.drain(line.activities(WORKER, settings={"loop.batch_records_max": 7}))
    terminals = {key: edge for key, edge in edges_of(line).items() if key[1].startswith("terminal:")}
    assert terminals == wanted_edges(day)
    assert line.sql("select flow_id from ieg.anomalies") == [("f3",)]
    assert line.sql("select version, repeats from ieg.versions") == [(60, 1)]
    assert not line.sql("select 1 from ieg.entities where entity = 'merchant:elsewhere'")


def test_a_broken_record_is_set_aside(line: Line) -> None:
    """A record without a card token field becomes a dead letter; the rest is applied."""
    broken = {key: value for key, value in bound(1).items() if key != "card_token"}
    line.append("flows.bound", [bound(0), broken, bound(2)], key=lambda _: "k")
    line.drain(line.activities(WORKER))
    assert line.sql("select event_id from dead_letters.letters") == [("f1",)]
    assert line.sql("select version from ieg.versions") == [(2,)]


def test_neighbours_are_bounded_in_depth_and_fan_out(line: Line) -> None:
    """The most recently seen come first, at most fan_out of each; no more than three steps out."""
    line.append("flows.bound", [bound(n, card_token=f"c{n % 5}", terminal_id=f"t{n}") for n in range(100)])
    line.drain(line.activities(WORKER))
    with line.database.scope() as connection:
        around = graph.around(connection, RUN, "card:c0", depth=9, fan_out=3)
        assert len(around) == 3
        assert [n.neighbour for n in around[0]] == ["merchant:m1", "terminal:t95", "terminal:t90"]
        assert {n.scanned for n in around[0]} == {21}
        assert graph.find(connection, RUN, ["card:nobody"]) == []


def test_a_supernode_is_read_within_bounds(line: Line) -> None:
    """A terminal with 200,000 cards: no more rows are read than the bound says, whatever it has."""
    with line.database.scope() as connection:
        connection.execute(
            "insert into ieg.edges select %s, 'card:' || n, 'terminal:hub', now(), now(), 1 from generate_series(1, 200000) n",
            (RUN,),
        )
        connection.execute("analyze ieg.edges")
        found = graph.neighbours(connection, RUN, ["terminal:hub"], fan_out=10)
        assert (len(found), found[0].scanned) == (10, SCAN_MAX)
        before = _rows_read(connection)
        graph.neighbours(connection, RUN, ["terminal:hub"], fan_out=10)
        assert _rows_read(connection) - before <= SCAN_MAX


def _rows_read(connection: Any) -> int:
    """Rows of the edge table read by this session in this transaction, by scan or by index."""
    ((scanned, fetched),) = connection.execute(
        "select pg_stat_get_xact_tuples_returned('ieg.edges'::regclass), pg_stat_get_xact_tuples_fetched('ieg.edges'::regclass)"
    ).fetchall()
    return int(scanned) + int(fetched)


def test_the_decision_names_the_graphs_version_and_not_in_its_digest(line: Line) -> None:
    """A decision made beside a graph of five flows says 5; the core digest is that of one made without a graph."""
    featured = bind(line, [bound(n) for n in range(5)])
    line.append("flows.featured", featured[:2])
    line.drain(line.activities(decision_fabric.WORKER))
    line.drain(line.activities(WORKER))
    line.append("flows.featured", featured[2:])
    line.drain(line.activities(decision_fabric.WORKER))
    decisions = {body["flow_id"]: body for body in line.bodies("decisions")}
    assert [decisions[f"f{n}"]["graph_version"] for n in range(5)] == [None, None, 5, 5, 5]
    policy = read_policy(ROOT, "baseline")
    for flow in featured:
        alone = decide(flow, policy, Posture(Mode.NORMAL, 0)).decision
        assert "graph_version" not in alone
        assert decisions[flow["flow_id"]]["core_digest"] == alone["core_digest"]
