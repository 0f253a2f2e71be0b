"""A terminal with a million transactions in its windows costs a record no more than one with a hundred."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from fraud_daemons.clock import iso
from fraud_daemons.domain.features import DAY_MICROSECONDS, microseconds
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.state import features as store
from fraud_daemons.workers.rtdl_core.online_feature_plane import WORKER
from tests.bound_flows import START, bound
from tests.integration.test_features_by_labels import label
from tests.line import RUN, Line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BATCH, BATCHES = 500, 12
STREAMED_EVERY = timedelta(seconds=2)


def history(terminal: str, size: int) -> list[tuple[str, str | None, str | None, int, int, int]]:
    """`size` transactions evenly over the 37 days before the stream, each of another card out of 5,000."""
    start = microseconds(iso(START)) - 37 * DAY_MICROSECONDS
    return [
        (f"w{terminal}{n}", f"c{n % 5000}", f"t:{terminal}", start + n * 37 * DAY_MICROSECONDS // size, n, 100)
        for n in range(size)
    ]


def stream(terminal: str, first: int) -> list[dict[str, Any]]:
    return [
        bound(0, flow_id=f"f{terminal}{n}", source_seq=10**7 + n, occurred_at=iso(START + n * STREAMED_EVERY),
              card_token=f"x{terminal}{n % 400}", terminal_id=terminal, merchant_id=None)
        for n in range(first, first + BATCH)
    ]  # fmt: skip


def milliseconds(line: Line, plane: Activity, terminal: str) -> float:
    """The median step of a full batch at this terminal, labels among them, once its window is in memory."""
    taken = []
    for number in range(BATCHES):
        line.append("flows.bound", stream(terminal, number * BATCH))
        line.append(
            "labels",
            [
                label(0, observed=number, label_id=f"{terminal}{number}-{n}", flow_id=f"w{terminal}{number * 5 + n}")
                for n in range(5)
            ],
        )
        began = time.process_time()
        while not (records := plane.step().records):
            pass
        taken.append((time.process_time() - began) * 1000)
        assert records == BATCH + 5
    return sorted(taken[2:])[len(taken[2:]) // 2]


def test_a_million_transactions_cost_a_record_no_more_than_a_hundred(one_partition: Line) -> None:
    """CPU of a batch of 500, with windows that move, old rows that go and labels that come: at most half as much again."""
    line = one_partition
    for terminal, size in (("hot", 1_000_000), ("quiet", 100)):
        rows = history(terminal, size)
        for start in range(0, size, 250_000):
            with line.database.scope() as connection:
                store.warm(connection, RUN, rows[start : start + 250_000])
    (plane,) = line.activities(WORKER, settings={"features.cached_entries_max": 5_000_000})
    quiet, busy = milliseconds(line, plane, "quiet"), milliseconds(line, plane, "hot")
    print(f"quiet {quiet:.1f} ms, hot {busy:.1f} ms per {BATCH} records")
    newest = next(b for b in reversed(line.bodies("flows.featured")) if b["terminal_id"] == "hot")["features"]
    assert newest["terminal_count_30d"] > 800_000
    assert newest["terminal_cards_30d"] > 0
    assert busy < 1.5 * quiet
