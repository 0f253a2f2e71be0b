"""Windows against a brute-force count, the vector's nulls and flags, and the Handbook's published values."""

from __future__ import annotations

import timeit
import tracemalloc
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.clock import iso
from fraud_daemons.domain import features
from fraud_daemons.domain.features import DAY_MICROSECONDS, EntityWindow, Row, microseconds, vector
from tests.unit.made_records import bound_record

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
DAY = DAY_MICROSECONDS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# few distinct times, so that ties and window edges are hit all the time
ROWS = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda n: n * DAY // 4),
        st.integers(0, 50),
        st.integers(1, 10**9),
        st.none() | st.integers(0, 5),
    ),
    max_size=40,
    unique_by=lambda row: row[:2],
)


def counted(rows: list[Row], time: int, seq: int, width: int) -> tuple[int, int]:
    inside = [r for r in rows if time - width < r[0] <= time and (r[0] < time or r[1] <= seq)]
    return len(inside), sum(r[2] for r in inside)


def filled(rows: list[Row]) -> EntityWindow:
    window = EntityWindow()
    for row in rows:
        window.add(*row)
    return window


@given(ROWS)
def test_windows_equal_a_plain_count_in_whatever_order_rows_arrive(rows: list[Row]) -> None:
    """(t-w, t] with ties by source_seq, exact, for shuffled and late arrivals."""
    window = filled(rows)
    assert list(window.rows()) == sorted(rows)
    for time, seq, *_ in rows:
        for width in (DAY // 4, DAY, 7 * DAY):
            assert window.count_and_sum(time, seq, width) == counted(rows, time, seq, width)


@given(ROWS, st.integers(0, 8), st.integers(0, 40))
def test_distinct_counts_equal_a_plain_count(rows: list[Row], scanned: int, quarter: int) -> None:
    """Who was on the other side, whatever the order of arrival and of the questions, over a prune, both ways of counting."""

    def inside(time: int, seq: int, width: int, since: int) -> int:
        found = {r[3] for r in rows if max(time - width, since) < r[0] <= time and (r[0] < time or r[1] <= seq)}
        return len(found - {None})

    def ask(time: int, seq: int) -> Any:
        found = vector(
            None, window, bound_record(occurred_at=iso(EPOCH + timedelta(microseconds=time)), source_seq=seq)
        )
        return [found[f"terminal_cards_{days}d"] for days in (1, 7, 30)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "SCANNED_ROWS_MAX", scanned)
        window = EntityWindow()
        for n, row in enumerate(rows):
            window.add(*row)
            earlier = rows[: n + 1]
            assert ask(row[0], row[1])[1] == len(
                {r[3] for r in earlier if row[0] - 7 * DAY < r[0] <= row[0] and (r[0] < row[0] or r[1] <= row[1])}
                - {None}
            )
        for time, seq, *_ in rows:
            assert ask(time, seq) == [inside(time, seq, days * DAY, -1) for days in (1, 7, 30)]
        horizon = quarter * DAY // 4
        since = horizon if window.prune(horizon) else -1
        for time, seq, *_ in rows:
            if time - DAY >= horizon:
                assert ask(time, seq) == [inside(time, seq, days * DAY, since) for days in (1, 7, 30)]


@given(ROWS, st.integers(1, 8))
def test_delayed_windows_equal_a_plain_count(rows: list[Row], delay_quarters: int) -> None:
    """(t-d-w, t-d]: at the delayed edge every row of that instant counts."""
    window, delay = filled(rows), delay_quarters * DAY // 4
    for time, seq, *_ in rows:
        expected = counted(rows, time - delay, 2**62, DAY)
        assert window.delayed_count_and_sum(time, seq, delay, DAY) == expected
        assert window.delayed_count_and_sum(time, seq, 0, DAY) == window.count_and_sum(time, seq, DAY)


@given(ROWS, st.integers(0, 40))
def test_pruning_changes_no_answer_within_the_retention(rows: list[Row], quarter: int) -> None:
    """What lies at or before the horizon goes; queries that do not reach behind it stay the same."""
    window, horizon = filled(rows), quarter * DAY // 4
    gone = window.prune(horizon)
    assert len(window) == len(rows) - gone
    for time, seq, *_ in rows:
        if time - DAY >= horizon:
            assert window.count_and_sum(time, seq, DAY) == counted(rows, time, seq, DAY)


@given(ROWS)
def test_a_removed_row_leaves_no_trace(rows: list[Row]) -> None:
    """An undone step gives back the window as it was, and storage gives back the same window."""
    window = filled(rows)
    for time, seq, *_ in rows[::2]:
        assert window.contains(time, seq)
        assert window.remove(time, seq)
        assert not window.remove(time, seq)
    assert list(window.rows()) == sorted(rows[1::2])
    assert list(EntityWindow.from_rows(sorted(rows)).rows()) == list(filled(rows).rows())


def test_a_row_takes_four_words_whoever_is_on_the_other_side() -> None:
    """A window's memory is its columns: no object stays for a time, a place, a sum or a counterpart."""
    window = EntityWindow()
    rows, rounds = 2000, 5
    tracemalloc.start()
    for n in range(rows * rounds):
        window.add(10**15 + n, 2**40 + n, 2**40 + n, 2**50 + n if n % 2 else None)
        window.prune(10**15 + n - rows)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows <= len(window) <= rows * 4 / 3 + 1
    assert held <= 32 * len(window) * 1.4


def test_sums_stay_exact_however_much_has_passed_through_a_window() -> None:
    """Running sums begin anew long before they reach 64 bits: ten million rows of the largest amount change no answer."""
    window = EntityWindow()
    for n in range(40):
        window.add(n * DAY, n, 2**58 + n)
        window.prune((n - 8) * DAY)
        expected = [2**58 + i for i in range(max(0, n - 6), n + 1)]
        assert window.count_and_sum(n * DAY, n, 7 * DAY) == (len(expected), sum(expected))


def test_adding_tells_what_came_late() -> None:
    """Late is: before a row that is already there."""
    window = EntityWindow()
    assert [window.add(t, s, 1) for t, s in ((5, 1), (5, 2), (5, 0), (9, 0), (8, 7))] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_an_unknown_entity_gives_nulls_and_never_zeros() -> None:
    """Without a card the card's features are null, without a place the terminal's; the rest is there."""
    alone = EntityWindow()
    alone.add(microseconds(bound_record()["occurred_at"]), 17, 2500)
    no_card = vector(None, alone, bound_record())
    no_place = vector(alone, None, bound_record())
    assert {no_card[name] for name in features.CARD_FEATURES} == {None}
    assert None not in {no_card[name] for name in features.TERMINAL_FEATURES}
    assert {no_place[name] for name in features.TERMINAL_FEATURES} == {None}
    assert (no_place["card_count_30d"], no_place["card_mean_30d"], no_place["amount_to_card_mean_30d"]) == (
        1,
        2500.0,
        1.0,
    )


def test_every_vector_has_exactly_the_named_features() -> None:
    """FEATURE_NAMES is what policies may read, in the order in which vectors are stored."""
    for windows in ((None, None), (EntityWindow(), EntityWindow())):
        assert sorted(vector(*windows, bound_record())) == sorted(features.FEATURE_NAMES)


@pytest.mark.parametrize(
    ("occurred_at", "weekend", "night"),
    [
        ("2018-07-20T23:59:59.999999Z", 0, 0),  # Friday
        ("2018-07-21T00:00:00.000000Z", 1, 1),  # Saturday
        ("2018-07-22T06:59:59.999999Z", 1, 1),
        ("2018-07-22T07:00:00.000000Z", 1, 0),
        ("2018-07-23T00:00:00.000000Z", 0, 1),  # Monday
        ("1969-12-28T12:00:00.000000Z", 1, 0),  # a Sunday before the epoch
    ],
)
def test_weekend_and_night(occurred_at: str, weekend: int, night: int) -> None:
    """Saturday and Sunday; hours 0 to 6; both in UTC and to the microsecond."""
    found = vector(None, None, bound_record(occurred_at=occurred_at))
    assert (found["is_weekend"], found["is_night"]) == (weekend, night)


def test_the_terminal_is_the_terminal_else_the_merchant() -> None:
    """A terminal and a merchant of the same name are two entities; unknown places are none."""
    assert features.terminal_key(bound_record()) == "t:t1"
    assert features.terminal_key(bound_record(terminal_id=None)) == "m:m1"
    assert features.terminal_key(bound_record(terminal_id=None, merchant_id=None)) is None


def test_the_snapshot_hash_covers_values_and_revision() -> None:
    """Equal vectors hash equally whatever their key order; another value or revision does not."""
    values: dict[str, Any] = {"a": 1, "b": None, "c": 0.1}
    same = features.snapshot_hash(dict(reversed(values.items())), "r")
    assert features.snapshot_hash(values, "r") == same
    assert same not in {features.snapshot_hash({**values, "a": 2}, "r"), features.snapshot_hash(values, "s")}
    assert features.feature_revision(7) != features.feature_revision(1)


def test_the_retention_reaches_the_widest_delayed_window() -> None:
    """30 days, the label delay and the lateness: nothing a vector may ask for is pruned."""
    assert features.retention_microseconds(label_delay_days=7, lateness_seconds=3600) == 37 * DAY + DAY // 24


def test_a_window_of_a_million_costs_bisections_only() -> None:
    """A query on 1,000,000 rows takes microseconds, not a walk: at most ten times that of 100 rows."""

    def best(size: int) -> float:
        window = EntityWindow.from_rows((n * 30 * DAY // size, n, 100, n % 1000) for n in range(size))
        record = bound_record(occurred_at="1970-01-31T00:00:00.000000Z", source_seq=size)
        return min(timeit.repeat(lambda: vector(window, window, record), number=20, repeat=20))

    assert best(1_000_000) < 10 * best(100)


@pytest.mark.skipif(not DATA.exists(), reason="the Handbook's files are not beside this checkout")
def test_the_handbooks_published_values_come_out() -> None:
    """Cards and terminals of 18 July, every third: counts exact, means to 1e-9, flags exact."""
    parquet = pytest.importorskip("pyarrow.parquet")
    oracle = {
        row["TRANSACTION_ID"]: row
        for row in parquet.read_table(
            DATA / "handbook_features_2018-07-18_to_07-31.parquet",
            filters=[("TRANSACTION_ID", "<", 1_046_000)],
        ).to_pylist()
        if row["TX_DATETIME"].day == 18
    }
    cards, terminals = ({row[key] for row in oracle.values() if row[key] % 3 == 0} for key in _ENTITIES)
    stream = [row for month in ("06", "07") for row in _rows(parquet, month)]
    stream.sort(key=lambda row: (row["TX_DATETIME"], row["TRANSACTION_ID"]))
    of_card: dict[int, EntityWindow] = defaultdict(EntityWindow)
    of_terminal: dict[int, EntityWindow] = defaultdict(EntityWindow)
    compared = 0
    for row in stream:
        card, terminal, seq = row["CUSTOMER_ID"], row["TERMINAL_ID"], row["TRANSACTION_ID"]
        if card not in cards and terminal not in terminals:
            continue
        occurred_at = row["TX_DATETIME"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        amount = round(row["TX_AMOUNT"] * 100)
        for window in (of_card[card], of_terminal[terminal]):
            window.add(microseconds(occurred_at), seq, amount)
        if seq in oracle:
            record = bound_record(occurred_at=occurred_at, source_seq=seq, traffic={"amount_minor": amount})
            found = vector(of_card[card], of_terminal[terminal], record, 7)
            _compare(found, oracle[seq], with_card=card in cards, with_terminal=terminal in terminals)
            compared += 1
    assert compared > 4000


_ENTITIES = ("CUSTOMER_ID", "TERMINAL_ID")


def _rows(parquet: Any, month: str) -> list[dict[str, Any]]:
    columns = ["TRANSACTION_ID", "TX_DATETIME", *_ENTITIES, "TX_AMOUNT"]
    return list(
        parquet.read_table(
            DATA / f"handbook_2018-{month}.parquet",
            columns=columns,
            filters=[("TRANSACTION_ID", "<", 1_046_000)],
        ).to_pylist()
    )


def _compare(found: features.Vector, oracle: dict[str, Any], *, with_card: bool, with_terminal: bool) -> None:
    assert (found["is_weekend"], found["is_night"]) == (oracle["TX_DURING_WEEKEND"], oracle["TX_DURING_NIGHT"])
    for days in features.WINDOW_DAYS:
        if with_card:
            mean = found[f"card_mean_{days}d"]
            assert found[f"card_count_{days}d"] == oracle[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"]
            assert mean is not None
            assert mean / 100 == pytest.approx(oracle[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"], rel=1e-9)
        if with_terminal:
            assert found[f"terminal_delayed_count_{days}d"] == oracle[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"]
