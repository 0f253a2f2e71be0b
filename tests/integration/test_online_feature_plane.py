"""online_feature_plane: vectors equal to the oracle, whatever is repeated, restarted, late or mixed with other runs."""

from __future__ import annotations

import json
import random
from datetime import date

import orjson
import pytest

from fraud_daemons.bus.port import OutRecord
from fraud_daemons.domain.features import SECOND_MICROSECONDS, microseconds
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.state import features as store
from fraud_daemons.workers.rtdl_core import _windows, online_feature_plane
from fraud_daemons.workers.rtdl_core.online_feature_plane import WORKER
from tests.bound_flows import bound, feed_labels, line_vectors_with, recomputed, steps, truth_mark, vectors
from tests.handbook import ORACLE, differences_from_oracle, handbook_bound, handbook_labels, read_handbook
from tests.line import RUN, Line

OTHER_RUN = "platform_20260102T000000Z"


@pytest.mark.skipif(not ORACLE.exists(), reason="the Handbook's files are not beside the project (../shared/data)")
def test_the_18th_of_july_equals_the_oracle(one_partition: Line) -> None:
    """Counts, means and fraud shares of 9,530 transactions equal the Handbook's, with a restart in the middle, 5 %
    duplicates, and labels that come later than the traffic."""
    line = one_partition
    history = read_handbook(date(2018, 6, 11), date(2018, 7, 17))
    with line.database.scope() as connection:
        warmed = store.warm(connection, RUN, history)
    assert warmed > 600_000
    day = [handbook_bound(row) for row in read_handbook(date(2018, 7, 18), date(2018, 7, 18))]
    assert (len(day), len({b["card_token"] for b in day}), len({b["terminal_id"] for b in day})) == (9530, 3669, 6117)
    dice = random.Random(18)
    stream = []
    for body in day:
        stream.append(body)
        if dice.random() < 0.05:
            stream.append(dice.choice(stream[-200:]))
    labels = handbook_labels(date(2018, 6, 11), date(2018, 7, 18))
    noon = "2018-07-18T12:00:00.000000Z"
    line.append("truth", [truth_mark("2018-07-18T00:00:00.000000Z")], key=lambda _: "mark-0")
    line.append("flows.bound", stream)
    before = line.activities(WORKER)
    assert line.drain(before) == 0, "nothing is given before the labels have come"
    feed_labels(line, [one for one in labels if one["observed_time"] <= noon], noon)
    steps(line, before, len(stream) // 3)
    before[0].forget()  # a failed step
    line.drain(before)
    assert 0 < len(vectors(line)) < 9530, "the afternoon waits for its labels"
    feed_labels(line, [one for one in labels if one["observed_time"] > noon], "2018-07-19T00:00:00.000000Z")
    line.drain(line.activities(WORKER))  # a new process
    found = {flow: features for (_, flow), features in vectors(line).items()}
    assert len(found) == 9530
    assert differences_from_oracle(found, shares=True)[:5] == []
    ((repeats, late, too_late),) = line.sql("select repeats, late, too_late from ofp.runs")
    assert (repeats, late, too_late) == (len(stream) - len(day), 0, 0)
    # red: windows that forgot one day of history, labels that were ignored, and no vectors at all, are seen
    assert differences_from_oracle(
        {flow: {**f, "terminal_fraud_share_30d": 0.0} for flow, f in found.items()}, shares=True
    )
    assert differences_from_oracle({})
    assert differences_from_oracle(
        {flow: {**f, "card_count_30d": f["card_count_30d"] - 1} for flow, f in found.items()}
    )


def test_a_plane_that_only_advances_is_seen(line: Line) -> None:
    """Red counterpart: with the pass-through the checkpoint moves and no flow has a vector."""
    line.append("flows.bound", [bound(n) for n in range(10)])
    assert line.drain(line.pass_through(WORKER)) == 10
    assert vectors(line) != recomputed([bound(n) for n in range(10)])


def test_a_plane_with_wrong_windows_is_seen(one_partition: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red counterpart: a plane that does not load what it lost gives other vectors, and the check says so."""
    line = one_partition
    line.append("flows.bound", [bound(n) for n in range(10)])
    monkeypatch.setattr(store, "load_windows", lambda _connection, _entities: {})
    for _ in range(4):
        steps(line, line.activities(WORKER, settings={"loop.batch_records_max": 2})[:1], 1)
    monkeypatch.undo()
    line.work(WORKER)
    found = vectors(line)
    assert len(found) == 10
    assert found != recomputed([bound(n) for n in range(10)])


def test_a_repeated_flow_is_given_nothing_new_and_counted(one_partition: Line) -> None:
    """The same bound record again, in the same batch or a later one, changes no window and publishes nothing."""
    line = one_partition
    bodies = [bound(n) for n in range(12)]
    line.append("flows.bound", bodies + bodies[:3])
    line.work(WORKER)
    line.append("flows.bound", bodies)
    line.work(WORKER)
    assert vectors(line) == recomputed(bodies)
    assert line.sql("select repeats from ofp.runs") == [(15,)]
    assert line.sql("select count(*) from ofp.entity_events") == [(24,)]


def test_a_featured_record_is_its_bound_record_with_the_features_behind(one_partition: Line) -> None:
    """Byte for byte what encoding the whole record would give, also for a bound record that is not written compactly."""
    spaced = json.dumps(bound(3), indent=1).encode() + b"\n"
    one_partition.append("flows.bound", [bound(1), bound(2, card_token=None)])
    with one_partition.bus.transaction() as log:
        log.append([OutRecord("flows.bound", "k", bound(3)["flow_id"], RUN, spaced)])
    one_partition.work(WORKER)
    before = [orjson.loads(record.body) for record in one_partition.records("flows.bound")]
    after = [record.body for record in one_partition.records("flows.featured")]
    assert len(after) == 3
    for body, whole in zip(before, after, strict=True):
        parsed = orjson.loads(whole)
        assert whole == orjson.dumps(parsed)
        assert list(parsed)[: len(body)] == list(body)
        assert {name: parsed[name] for name in body} == body


def test_reading_everything_again_gives_nothing_new(line: Line) -> None:
    """A consumer that lost its checkpoint meets its own footprint: no second vector, equal windows."""
    bodies = [bound(n) for n in range(30)]
    line.append("flows.bound", bodies)
    line.work(WORKER)
    before = line.records("flows.featured")
    line.fresh_checkpoints()
    line.work(WORKER)
    assert line.records("flows.featured") == before
    assert line.sql("select count(*) from ofp.entity_events") == [(60,)]


def test_another_record_under_a_known_flow_is_kept_apart(line: Line) -> None:
    """Same flow id, other content: kept whole as an anomaly, no vector, no window touched."""
    line.append("flows.bound", [bound(1)])
    line.work(WORKER)
    other = bound(1, traffic={**bound(1)["traffic"], "amount_minor": 999})
    line.append("flows.bound", [other])
    line.work(WORKER)
    assert vectors(line) == recomputed([bound(1)])
    ((flow_id, body),) = line.sql("select flow_id, body from ofp.anomalies")
    assert flow_id == "f1"
    assert b"999" in body
    assert line.sql("select distinct amount_minor from ofp.entity_events") == [(101,)]


def test_a_restart_between_any_two_steps_changes_nothing(one_partition: Line) -> None:
    """A new process for every batch gives the vectors of one that never stopped."""
    line = one_partition
    bodies = [bound(n) for n in range(40)]
    line.append("flows.bound", bodies)
    for _ in range(30):
        activities = line.activities(WORKER, settings={"loop.batch_records_max": 3})
        activities[0].step()
        activities[0].step()
    assert vectors(line) == recomputed(bodies)


def test_runs_do_not_see_each_other(one_partition: Line) -> None:
    """Two runs interleaved in one batch have their own windows: the same flows get the same vectors in each."""
    line = one_partition
    bodies = [bound(n, run=run) for n in range(20) for run in (RUN, OTHER_RUN)]
    line.append("flows.bound", bodies)
    line.work(WORKER)
    found = vectors(line)
    assert found == recomputed(bodies)
    assert all(found[RUN, f"f{n}"] == found[OTHER_RUN, f"f{n}"] for n in range(20))


def test_an_unknown_card_or_place_has_no_window(line: Line) -> None:
    """Without a card its features are null, without terminal and merchant theirs; nothing is stored for the side."""
    nobody = bound(1, card_token=None)
    nowhere = bound(2, terminal_id=None, merchant_id=None)
    at_merchant = bound(3, terminal_id=None)
    line.append("flows.bound", [nobody, nowhere, at_merchant])
    line.work(WORKER)
    found = vectors(line)
    assert found[RUN, "f1"]["card_count_30d"] is None
    assert found[RUN, "f1"]["terminal_count_30d"] == 1
    assert found[RUN, "f2"]["terminal_delayed_count_7d"] is None
    assert found[RUN, "f2"]["card_count_30d"] == 1
    entities = {entity for (entity,) in line.sql("select entity from ofp.entity_events")}
    assert entities == {"t:t1", "c:c2", "c:c0", "m:m1"}


def test_late_records_take_their_place_and_are_counted(one_partition: Line) -> None:
    """A late record is counted in its own place and by those after it; beyond the lateness it counts as too late."""
    line = one_partition
    same = {"card_token": "c", "terminal_id": "t"}
    bodies = [bound(n, second=s, **same) for n, s in ((1, 0), (2, 7200), (3, 7100), (4, 10), (5, 7300))]
    line.append("flows.bound", bodies)
    line.work(WORKER, settings={"features.lateness_seconds": 3600})
    found = vectors(line)
    assert found == recomputed(bodies)
    assert [found[RUN, f"f{n}"]["card_count_1d"] for n in range(1, 6)] == [1, 2, 2, 2, 5]
    assert line.sql("select late, too_late from ofp.runs") == [(1, 1)]


def test_old_rows_go_by_event_time_and_no_answer_changes(one_partition: Line) -> None:
    """Rows no window can ask for leave the table, and vectors are as if they had stayed."""
    line = one_partition
    bodies = [bound(n, second=n * 86_400 // 2, card_token="c", terminal_id="t") for n in range(200)]
    line.append("flows.bound", bodies)
    line.work(WORKER, settings={"loop.batch_records_max": 20})
    assert vectors(line) == recomputed(bodies)
    ((rows,),) = line.sql("select count(*) from ofp.entity_events where entity = 'c:c'")
    assert 74 <= rows < 110  # 37 days of two a day, and at most a third more that waits to be cut


def test_entities_not_seen_again_go_by_event_time(one_partition: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards and terminals that were seen once leave table and memory when no window can ask for them; the others stay,
    and one that comes back begins as if it had stayed."""
    line = one_partition
    monkeypatch.setattr(online_feature_plane, "LOOK_EVERY_RECORDS", 10)
    once = [bound(n, card_token=f"once{n}", terminal_id=f"once{n}") for n in range(60)]
    later = [bound(n, second=n * 86_400, card_token="c", terminal_id="t") for n in range(100, 200)]
    back = bound(300, second=200 * 86_400, card_token="once7", terminal_id="t")
    bodies = [*once, *later, back]
    line.append("flows.bound", bodies)
    plane = line.activities(WORKER, settings={"loop.batch_records_max": 10})
    line.drain(plane)
    assert vectors(line) == recomputed(bodies)
    rows = line.sql("select entity, count(*) from ofp.entity_events group by entity order by entity")
    assert [entity for entity, _ in rows] == ["c:c", "c:once7", "t:t"]
    assert dict(rows)["c:once7"] == 1
    assert len(plane[0]._handler._windows) == 3  # type: ignore[attr-defined]


def test_a_small_cache_gives_the_same_vectors(one_partition: Line) -> None:
    """Windows that are evicted are loaded again; the bound holds after every step."""
    line = one_partition
    bodies = [bound(n, card_token=f"c{n % 50}", terminal_id=f"t{n % 30}") for n in range(3000)]
    line.append("flows.bound", bodies)
    activities = line.activities(WORKER, settings={"features.cached_entries_max": 1000, "loop.batch_records_max": 40})
    while activities[0].step().rest_seconds == 0:
        assert activities[0]._handler._windows.entries <= 1000  # type: ignore[attr-defined]
    line.drain(activities)
    plenty = line_vectors_with(bodies)
    assert vectors(line) == plenty


def test_windows_of_who_rests_leave_memory_and_come_back(one_partition: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not used for a while goes although there is room, and a card that comes back has its whole window."""
    line = one_partition
    monkeypatch.setattr(_windows, "IDLE_RECORDS", 50)
    rested = [bound(n, card_token=f"r{n % 30}", terminal_id=f"r{n % 20}") for n in range(100)]
    meanwhile = [bound(n, card_token="c", terminal_id="t") for n in range(100, 250)]
    back = [bound(n, card_token=f"r{n % 30}", terminal_id="t") for n in range(250, 255)]
    bodies = [*rested, *meanwhile, *back]
    line.append("flows.bound", [*rested, *meanwhile])
    activities = line.activities(WORKER, settings={"loop.batch_records_max": 10})
    line.drain(activities)
    windows = activities[0]._handler._windows  # type: ignore[attr-defined]
    assert (len(windows), windows.entries) == (2, 302)
    line.append("flows.bound", back)
    line.drain(activities)
    assert len(windows) == 2 + 5
    assert vectors(line) == line_vectors_with(bodies)


def test_two_flows_of_one_instant_and_place_both_count(line: Line) -> None:
    """Live producers may share a second and a sequence: their flows are two, and both stand in the windows."""
    twins = [bound(n, second=0, source_seq=0, card_token="c", terminal_id="t") for n in (1, 2)]
    line.append("flows.bound", twins[:1])
    line.work(WORKER)
    line.append("flows.bound", twins[1:])
    line.work(WORKER)
    assert vectors(line)[RUN, "f2"]["card_count_1d"] == 2
    assert line.sql("select count(*) from ofp.entity_events") == [(4,)]


def test_warmed_history_counts_once(line: Line) -> None:
    """Warming twice is warming once, and a warmed flow that is streamed all the same is not counted twice."""
    history = bound(1, second=-60, card_token="c", terminal_id="t")
    time = microseconds(history["occurred_at"])
    row = ("f1", "c", "t:t", time, 1, history["traffic"]["amount_minor"])
    for expected in (2, 0):
        with line.database.scope() as connection:
            assert store.warm(connection, RUN, [row]) == expected
    line.append("flows.bound", [history, bound(2, card_token="c", terminal_id="t")])
    line.work(WORKER)
    found = vectors(line)
    assert found[RUN, "f1"]["card_count_1d"] == 1
    assert found[RUN, "f2"]["card_count_1d"] == 2
    assert found[RUN, "f2"]["card_sum_1d"] == 101 + 102


def test_a_record_that_breaks_its_contract_is_set_aside(line: Line) -> None:
    """A body that is no bound record, or whose numbers no window can hold, becomes a dead letter; those around it get
    their vectors."""
    with line.bus.transaction() as log:
        log.append([OutRecord("flows.bound", "x", "x", RUN, body) for body in (b"no json", b"[]", b'{"flow_id": "f"}')])
    too_much = {"amount_minor": 10**12 + 1}
    line.append("flows.bound", [bound(1), bound(2, source_seq=2**63), bound(3, traffic=too_much), bound(4)])
    line.work(WORKER)
    assert {flow for _, flow in vectors(line)} == {"f1", "f4"}
    assert line.sql("select count(*) from dead_letters.letters where worker = 'online_feature_plane'") == [(5,)]


def test_the_index_names_vector_and_record(line: Line) -> None:
    """The snapshot index holds what the record on the bus says: hash, revision, position of the bound record."""
    line.append("flows.bound", [bound(1)])
    line.work(WORKER)
    (body,) = line.bodies("flows.featured")
    ((digest, revision, partition, position),) = line.sql(
        "select snapshot_hash, feature_revision, bound_partition, bound_position from ofp.snapshots"
    )
    assert (body["snapshot_hash"], body["feature_revision"]) == (digest, revision)
    assert body["bound_position"] == [partition, position]
    assert body["feature_status"] == "PRESENT"
    assert canonical_json({k: body[k] for k in bound(1)}) == canonical_json(bound(1))
    assert SECOND_MICROSECONDS == 1_000_000
