"""The rules of the ladder, without clock and database."""

from __future__ import annotations

import pytest

from fraud_daemons.domain.ladder import Ladder, Look, Progress, Rule, stalled
from fraud_daemons.domain.posture import Mode

RULES = {
    "features": Rule(Mode.DEGRADED_2, 1.0),
    "store": Rule(Mode.DEGRADED_1, 0.5),
    "policy": Rule(Mode.FAIL_CLOSED, 0.0),
}


def modes(looks: list[set[str]], *, start: Mode = Mode.NORMAL, seconds: float = 0.25, quiet: float = 2.0) -> list[Mode]:
    """The posture after each look; a look is the set of its bad signals."""
    ladder, mode, found = Ladder(RULES, quiet_seconds=quiet), start, []
    for bad in looks:
        step = ladder.observe(seconds, [Look(signal, signal in bad, "") for signal in RULES], mode)
        mode = step.mode if step else mode
        found.append(mode)
    return found


@pytest.mark.parametrize(
    ("before", "now", "answer"),
    [
        (None, (5, 9), False),  # the first look knows nothing
        ((5, 9), (5, 9), True),
        ((5, 0), (5, 9), False),  # they only just came
        ((5, 9), (5, 0), False),
        ((5, 900), (6, 9_000), False),  # lag alone, and growing: slow is not silent
        ((5, 0), (5, 0), False),  # idle
    ],
)
def test_a_stage_is_silent_when_records_wait_and_none_is_taken(
    before: tuple[int, int] | None, now: tuple[int, int], answer: bool
) -> None:
    """Lag alone is no illness; idleness is none either."""
    assert stalled(Progress(*before) if before else None, Progress(*now)) is answer


def test_it_falls_once_patience_is_over_and_not_before() -> None:
    """One second of patience at four looks a second: the fourth bad look in a row falls; a good one starts anew."""
    assert modes([{"features"}] * 4) == [Mode.NORMAL] * 3 + [Mode.DEGRADED_2]
    assert set(modes([{"features"}] * 3 + [set()] + [{"features"}] * 3)) == {Mode.NORMAL}


def test_the_worst_signal_decides() -> None:
    """Down at once to the worst rung that is asked for, also from a rung."""
    assert modes([{"store"}, {"store"}, {"store", "policy"}]) == [Mode.NORMAL, Mode.DEGRADED_1, Mode.FAIL_CLOSED]


def test_it_climbs_only_after_quiet_and_then_to_what_the_signals_allow() -> None:
    """Two quiet seconds are eight looks; what is still ill holds its own rung."""
    assert modes([set()] * 8, start=Mode.FAIL_CLOSED) == [Mode.FAIL_CLOSED] * 7 + [Mode.NORMAL]
    climbed = modes([{"store"}] * 9, start=Mode.FAIL_CLOSED)
    assert climbed[-2:] == [Mode.DEGRADED_1] * 2
    assert climbed[:7] == [Mode.FAIL_CLOSED] * 7


def test_a_relapse_starts_the_quiet_period_anew() -> None:
    """One bad look in the middle, too short to be ill, and the wait begins again: no flapping."""
    assert set(modes([set()] * 7 + [{"features"}] + [set()] * 7, start=Mode.DEGRADED_2)) == {Mode.DEGRADED_2}


def test_a_look_that_came_late_counts_little() -> None:
    """A machine that stood still for a minute held up the ladder too: that is no minute of silence."""
    assert modes([{"features"}], seconds=60.0) == [Mode.NORMAL]
