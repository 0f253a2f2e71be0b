"""The rungs of the ladder: their order and what each allows."""

from __future__ import annotations

import pytest

from fraud_daemons.domain.posture import (
    LADDER,
    Mode,
    allows_features,
    allows_graph,
    allows_model,
    allows_unreviewed,
    worst,
)


def test_every_rung_allows_no_more_than_the_better_one() -> None:
    """Going down the ladder only ever takes things away."""
    for allows in (allows_model, allows_features, allows_graph, allows_unreviewed):
        allowed = [allows(mode) for mode in LADDER]
        assert allowed == sorted(allowed, reverse=True)


@pytest.mark.parametrize(
    ("mode", "model", "features", "unreviewed"),
    [
        (Mode.NORMAL, True, True, True),
        (Mode.DEGRADED_1, False, True, True),
        (Mode.DEGRADED_2, False, False, True),
        (Mode.FAIL_CLOSED, False, False, False),
    ],
)
def test_what_each_rung_allows(mode: Mode, model: bool, features: bool, unreviewed: bool) -> None:
    """The table of PLATFORM: no model, then no features and no graph, then nothing unreviewed."""
    assert (allows_model(mode), allows_features(mode), allows_unreviewed(mode)) == (model, features, unreviewed)


def test_worst_goes_by_severity_and_not_by_spelling() -> None:
    """FAIL_CLOSED sorts before NORMAL as text and is still the worst."""
    assert worst(Mode.NORMAL, Mode.FAIL_CLOSED, Mode.DEGRADED_2) is Mode.FAIL_CLOSED
    assert worst() is Mode.NORMAL
