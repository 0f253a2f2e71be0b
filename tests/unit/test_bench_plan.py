"""How many transactions the benchmark streams: as many as fill the seconds at the warm-up's rate, unless it is told."""

from __future__ import annotations

import pytest

from fraud_daemons.acceptance.benchmark import SPARE, TRANSACTIONS_MIN, Plan, flat_out_transactions, world_size


def plan(*, seconds: int = 60, transactions: int | None = None) -> Plan:
    return Plan(warm_up=20_000, seconds=seconds, transactions=transactions, paced_seconds=0, probes=False)


def test_the_seconds_are_filled_at_the_warm_up_s_rate_with_some_to_spare() -> None:
    """At 500/s a minute takes 30,000, and a quarter more because that rate has a beginning and an end in it."""
    assert flat_out_transactions(plan(), per_second=500.0) == 60 * 500 * SPARE
    assert flat_out_transactions(plan(seconds=2), per_second=300.5) == 752


def test_a_slow_warm_up_leaves_something_to_stream() -> None:
    """However slow it was, there is something to measure."""
    assert flat_out_transactions(plan(seconds=1), per_second=0.01) == TRANSACTIONS_MIN


def test_a_number_that_was_given_counts() -> None:
    """--transactions wins over --seconds, whatever the rate was."""
    assert flat_out_transactions(plan(transactions=16_000), per_second=500.0) == 16_000


@pytest.mark.parametrize(
    ("transactions", "size"),
    [(100, 20_000), (20_000, 20_000), (20_001, 50_000), (50_000, 50_000), (50_001, 100_000)],
)
def test_a_world_holds_what_is_streamed(transactions: int, size: int) -> None:
    """The smallest of a few sizes, so that the next benchmark finds its world made."""
    assert world_size(transactions) == size
