"""Receipts that are sealed from memory are those of the committed rows, to the byte and in order, whatever is missing of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest

from fraud_daemons.bus.port import TopicPartition
from fraud_daemons.clock import SystemClock
from fraud_daemons.domain.admission import Item
from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.state import admissions
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress._gate_intake import Intake
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts
from tests.gate import events_of, mark, traffic
from tests.line import RUN, Line

Sealed = list[tuple[int, str, Any]]


def admit(line: Line, fresh: FreshReceipts, events: list[dict[str, Any]]) -> None:
    intake = Intake(
        database=line.database, runs_database=line.database, bus=line.bus, clock=SystemClock(), currency="USD", fresh=fresh
    )  # fmt: skip
    intake.admit([Item(event) for event in events], Principal('a "quoted" sender', "", frozenset(EVENT_TYPES)))


def sealed(line: Line, fresh: FreshReceipts, *, limit: int) -> dict[TopicPartition, Sealed]:
    """What a sealer gets of every topic, from the beginning to the head."""
    found = {}
    with line.database.scope() as connection:
        heads = line.bus.log(connection).heads(["traffic", "flow_anchors", "arrival_events", "arrival_entities"])
        for where, head in heads.items():
            entries: Sealed = []
            while len(entries) < head:
                step = fresh.entries(connection, where, len(entries), limit)
                assert 0 < sum(entry.records for entry in step) <= limit
                for entry in step:
                    values = orjson.loads(said := orjson.dumps([entry.value]))
                    assert said == orjson.dumps(values, option=orjson.OPT_SORT_KEYS), "canonical"
                    assert len(values) == entry.records
                    entries += [(entry.position + n, entry.platform_run_id, value) for n, value in enumerate(values)]
            assert [position for position, _, _ in entries] == list(range(head))
            found[where] = entries
    return found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by each reading of rows: how many were asked for."""
    asked: list[int] = []
    read = admissions.receipts_from

    def counting(*where: Any, position: int, limit: int) -> Any:
        asked.append(limit)
        return read(*where, position=position, limit=limit)

    monkeypatch.setattr(admissions, "receipts_from", counting)
    return asked


@pytest.mark.parametrize("limit", [7, 20, 500])
def test_whatever_was_not_kept_is_read_and_the_rest_is_used(line: Line, looks: list[int], limit: int) -> None:
    """A request between two others that another process admitted, one larger than the limit, and marks on every partition."""
    line.begin_run()
    fresh, other = FreshReceipts(), FreshReceipts()
    for number in range(6):
        events = [*events_of(range(number * 10, number * 10 + 5), run=RUN), mark("traffic", number, run=RUN)]
        admit(line, other if number == 2 else fresh, events)
    admit(line, fresh, [traffic(number, run=RUN) for number in range(100, 130)])
    mine = sealed(line, fresh, limit=limit)
    assert looks, "the request of the other process"
    assert max(looks) <= 7, "and nothing of those beside it"
    assert mine == sealed(line, FreshReceipts(), limit=limit)
    assert not any(fresh._lots.values())
    assert fresh._records == 0


def test_what_is_kept_is_bounded_and_given_once(line: Line, looks: list[int]) -> None:
    """A third request that finds no room is not kept; what was given for an object is not given again."""
    line.begin_run()
    fresh = FreshReceipts(records_max=10)
    for number in range(3):
        admit(line, fresh, [traffic(number * 5 + n, run=RUN) for n in range(5)])  # the third finds no room
    assert fresh._records == 10
    first = sealed(line, fresh, limit=100)
    assert looks, "the third request"
    assert sum(map(len, first.values())) == 15
    assert fresh._records == 0
    looks.clear()
    assert first == sealed(line, fresh, limit=100)
    assert len(looks) == sum(bool(entries) for entries in first.values())


def test_a_request_that_names_two_runs_is_read_from_its_rows(line: Line, looks: list[int]) -> None:
    """The receipts of an object are of one run."""
    line.begin_run()
    line.begin_run("platform_20260102T000000Z")
    fresh = FreshReceipts()
    admit(line, fresh, [traffic(1, run=RUN), traffic(1, run="platform_20260102T000000Z"), traffic(2, run=RUN)])
    assert fresh._records == 0
    entries = [entry for each in sealed(line, fresh, limit=100).values() for entry in each]
    assert looks
    assert Counter(run for _, run, _ in entries) == {RUN: 2, "platform_20260102T000000Z": 1}
