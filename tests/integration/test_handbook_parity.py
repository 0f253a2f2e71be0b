"""Every row of the Handbook's own feature values, shares included: 18 to 31 July, 134,064 transactions, 12 windowed features.

Minutes long each: `make test-faults`. One day of it is in `test_online_feature_plane.py` and runs always.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import orjson
import pytest

from fraud_daemons.bus.port import OutRecord, TopicPartition
from fraud_daemons.clock import iso, parse_iso
from fraud_daemons.domain.envelope import AFTER_EVERYTHING, OUTPUTS, TRUTH, make_event, make_mark
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import features as store
from fraud_daemons.workers.case_labels import label_store
from fraud_daemons.workers.rtdl_core import context_store_flow_binding, online_feature_plane
from tests.bound_flows import feed_labels, truth_mark
from tests.handbook import ORACLE, differences_from_oracle, handbook_bound, handbook_labels, read_handbook
from tests.line import RUN, Line

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not ORACLE.exists(), reason="the Handbook's files are not beside the project (../shared/data)"),
]

FIRST, LAST = date(2018, 7, 18), date(2018, 7, 31)
HISTORY = date(2018, 6, 11)
ROWS = 134_064
SHUFFLED_SECONDS = 1800
RESTARTS = 10
COMPARED = tuple(
    f"{name}_{days}d"
    for days in (1, 7, 30)
    for name in ("card_count", "card_mean", "terminal_delayed_count", "terminal_fraud_share")
)
Row = tuple[str, str, str, int, int, int]


class Vectors:
    """The vectors on the bus, read as they come: only what is compared, and only of the days compared."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._position = 0
        self.found: dict[str, dict[str, Any]] = {}

    def read(self) -> None:
        where = TopicPartition("flows.featured", 0)
        while True:
            with self._line.bus.transaction() as log:
                records = log.read({where: self._position}, limit=5000)
            if not records:
                return
            self._position = records[-1].position + 1
            for record in records:
                body = orjson.loads(record.body)
                if body["occurred_at"] >= FIRST.isoformat():
                    assert body["flow_id"] not in self.found, f"{body['flow_id']} was given two vectors"
                    self.found[body["flow_id"]] = {name: body["features"][name] for name in COMPARED}


def midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00.000000Z"


def days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)


def test_every_row_of_the_oracle_comes_out(one_partition: Line) -> None:
    """Streamed from 11 June, 489,000 transactions with the labels of the truth feed day by day: 134,064 of 134,064."""
    line = one_partition
    vectors, labels = Vectors(line), handbook_labels(HISTORY, LAST)
    line.append("truth", [truth_mark(midnight(HISTORY))], key=lambda _: "mark-0")
    plane = line.activities(online_feature_plane.WORKER)
    for day in days(HISTORY, LAST):
        until = midnight(day + timedelta(days=1))
        line.append("flows.bound", [handbook_bound(row) for row in read_handbook(day, day)])
        feed_labels(line, [one for one in labels if midnight(day) < one["observed_time"] <= until], until)
        line.drain(plane)
        vectors.read()
    assert len(vectors.found) == ROWS
    assert differences_from_oracle(vectors.found, last=LAST, shares=True)[:5] == []


def parts(row: Row) -> list[dict[str, Any]]:
    """A transaction as the four events that reach the context store."""
    flow_id, card, terminal, _, seq, _ = row
    bound = handbook_bound(row)
    place = {"merchant_id": None, "terminal_id": terminal.removeprefix("t:"), "arrival_seq": seq}
    who = {"party_id": None, "account_id": None, "card_token": card, "device_id": None, "ip": None}
    payloads = {
        "traffic": bound["traffic"],
        "arrival_events": {**place, "channel": "POS"},
        "arrival_entities": {**place, **who},
        "flow_anchors": {"flow_id": flow_id, **place, **who},
    }
    return [event(output, payloads[output], bound["occurred_at"], seq) for output in OUTPUTS]


def event(output: str, payload: dict[str, Any], occurred_at: str, seq: int) -> dict[str, Any]:
    return make_event(
        event_type=output, payload=payload, occurred_at=occurred_at, source_seq=seq, platform_run_id=RUN,
        scenario_run_id="a" * 32, world="demo", producer="test",
    )  # fmt: skip


def truth_event(label: Mapping[str, Any], seq: int) -> dict[str, Any]:
    payload = {"flow_id": label["flow_id"], "fraud": True, "fraud_type": None, "effective_time": label["effective_time"],
               "source_ref": None, "correction": 0}  # fmt: skip
    return event(TRUTH, payload, label["observed_time"], seq)


def marks(up_to: str) -> list[dict[str, Any]]:
    return [
        make_mark(
            output=output, up_to=(up_to, AFTER_EVERYTHING[1]), end_of_world=False, stop_reason=None, platform_run_id=RUN,
            scenario_run_id="a" * 32, world="demo", producer="test",
        )
        for output in (TRUTH, *OUTPUTS)
    ]  # fmt: skip


def publish(line: Line, events: Sequence[dict[str, Any]]) -> None:
    with line.bus.transaction() as log:
        log.append(
            [
                OutRecord(
                    one["payload"].get("output", one["event_type"]), one["payload"].get("flow_id", "mark-0"),
                    one["event_id"], RUN, orjson.dumps(one),
                )
                for one in events
            ]
        )  # fmt: skip


def test_every_row_comes_out_of_shuffled_repeated_input_over_ten_restarts(one_partition: Line) -> None:
    """18 to 31 July as events of four outputs and the truth feed, each up to half an hour out of its order, 5 % of them
    twice, through context store, label store and feature plane, all begun anew ten times: 134,064 of 134,064."""
    line, dice = one_partition, random.Random(1807)
    with line.database.scope() as connection:
        store.warm(connection, RUN, read_handbook(HISTORY, FIRST - timedelta(days=1)))
    labels = handbook_labels(HISTORY, LAST)
    told = [one for one in labels if one["observed_time"] <= midnight(FIRST)]
    publish(line, [truth_event(one, n) for n, one in enumerate(told)])
    workers = (context_store_flow_binding.WORKER, label_store.WORKER, online_feature_plane.WORKER)
    activities: list[Activity] = [a for worker in workers for a in line.activities(worker)]
    vectors, waiting, quarters, restarts = Vectors(line), list[tuple[int, int, dict[str, Any]]](), 0, 0
    for day in days(FIRST, LAST):
        rows = read_handbook(day, day)
        for row in rows:
            for part in parts(row):
                for _ in range(2 if dice.random() < 0.05 else 1):
                    waiting.append((row[3] + dice.randrange(SHUFFLED_SECONDS * 1_000_000), len(waiting), part))
        truths = [one for one in labels if midnight(day) < one["observed_time"] <= midnight(day + timedelta(days=1))]
        publish(line, [truth_event(one, n) for n, one in enumerate(truths)])
        waiting.sort()
        until = parse_iso(midnight(day + timedelta(days=1)))
        if day < LAST:
            until -= timedelta(seconds=SHUFFLED_SECONDS)
        # what arrives later than this was perhaps not sent: no mark may cover it
        for quarter in range(1, 5):
            edge = until - timedelta(hours=6 * (4 - quarter))
            arrived = int(edge.timestamp() * 1_000_000) + (SHUFFLED_SECONDS * 1_000_000 if day == LAST else 0)
            cut = next((n for n, one in enumerate(waiting) if one[0] > arrived), len(waiting))
            publish(line, [one[2] for one in waiting[:cut]])
            del waiting[:cut]
            publish(line, marks(iso(edge - timedelta(seconds=0 if day == LAST else SHUFFLED_SECONDS))))
            quarters += 1
            if quarters % 5 == 0 and restarts < RESTARTS:
                restarts += 1
                for _ in range(20):
                    for activity in activities:
                        activity.step()
                activities = [a for worker in workers for a in line.activities(worker)]
            line.drain(activities)
            vectors.read()
    assert restarts == RESTARTS
    assert len(vectors.found) == ROWS
    assert differences_from_oracle(vectors.found, last=LAST, shares=True)[:5] == []
    ((repeats, late, too_late),) = line.sql("select repeats, late, too_late from ofp.runs")
    assert (repeats, late, too_late) == (0, 0, 0), "the context store sorted and absorbed what came shuffled and twice"
