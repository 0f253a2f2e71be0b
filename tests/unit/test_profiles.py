"""Checks between settings: timers that must rise."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("database.client_deadline_seconds", 3.0, "database.connect_timeout_seconds (3) must be below"),
        ("database.client_deadline_seconds", 30.0, "below loop.watchdog_seconds (30)"),
        ("database.client_deadline_seconds", 12.0, "below loop.beat_age_seconds_max (12)"),
        ("loop.beat_age_seconds_max", 30.0, "loop.beat_age_seconds_max (30) must be below loop.watchdog_seconds (30)"),
        ("loop.watchdog_seconds", 12.0, "loop.beat_age_seconds_max (12) must be below loop.watchdog_seconds (12)"),
        ("database.lock_timeout_seconds", 6.0, "below database.statement_timeout_seconds (6)"),
        (
            "database.idle_in_transaction_seconds",
            30.0,
            "database.idle_in_transaction_seconds (30) must be below loop.w",
        ),
        ("database.statement_timeout_seconds", 8.0, "below database.client_deadline_seconds (8)"),
        ("database.scope_seconds_max", 8.0, "below database.scope_seconds_max (8)"),
        ("database.long_statement_timeout_seconds", 70.0, "below database.long_client_deadline_seconds (70)"),
    ],
)
def test_timers_out_of_order_are_refused(setting: str, value: float, said: str) -> None:
    """connect < deadline < beat age < watchdog, lock < statement < deadline, idle in transaction < watchdog: anything else
    is named, the pair and what would happen."""
    with pytest.raises(ConfigurationError) as caught:
        load_profile("local_parity", root=ROOT, environment={}, overrides={setting: value})
    assert all(problem.startswith("timers out of order: ") for problem in caught.value.problems)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_the_defaults_are_in_order() -> None:
    """The honest counterpart: a profile that sets no timer is read."""
    load_profile("local_parity", root=ROOT, environment={})
