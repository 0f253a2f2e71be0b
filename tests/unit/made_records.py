"""Crafted records for the unit tests of the decision line: one ordinary transaction, changed field by field."""

from __future__ import annotations

from typing import Any

from fraud_daemons.domain import features

RUN = "platform_20260101T000000Z"


def bound_record(**changes: Any) -> dict[str, Any]:
    """A complete `flows.bound` record; top-level fields can be replaced."""
    place = {"merchant_id": "m1", "terminal_id": "t1", "arrival_seq": 3}
    who = {"party_id": "p1", "account_id": "a1", "card_token": "c1", "device_id": None, "ip": None}
    where = {"channel": "POS", "pos_entry_mode": "051", "mcc": "5411", "merchant_name": "Corner shop"}
    return {
        "flow_id": "f1",
        "platform_run_id": RUN,
        "scenario_run_id": "a" * 32,
        "world": "demo",
        "occurred_at": "2018-07-18T12:00:00.000000Z",
        "source_seq": 17,
        "event_id": "e" * 32,
        "traffic": {"flow_id": "f1", "amount_minor": 2500, "currency": "USD", "message_type": "0100"},
        "anchor": {"flow_id": "f1", **place, **who},
        "arrival": {**place, **where, "country": "US", "state": None, "postal_code": None},
        "entities": {**place, **who},
        "card_token": "c1",
        "terminal_id": "t1",
        "merchant_id": "m1",
        "context_status": "COMPLETE",
        "release_rule": "complete",
        "sources": {"traffic": [0, 1]},
        "admitted_at": 1.5,
        **changes,
    }


def with_amount(amount_minor: int) -> dict[str, Any]:
    """The `traffic` payload with another amount."""
    return {**bound_record()["traffic"], "amount_minor": amount_minor}


ORDINARY_FEATURES: dict[str, Any] = {
    **{f"card_count_{d}d": n for d, n in ((1, 2), (7, 10), (30, 29))},
    **{f"card_sum_{d}d": 2500 * n for d, n in ((1, 2), (7, 10), (30, 29))},
    **{f"card_mean_{d}d": 2500.0 for d in (1, 7, 30)},
    **{f"card_terminals_{d}d": n for d, n in ((1, 1), (7, 4), (30, 9))},
    "amount_to_card_mean_30d": 1.0,
    **{f"terminal_count_{d}d": n for d, n in ((1, 2), (7, 10), (30, 40))},
    **{f"terminal_sum_{d}d": 2500 * n for d, n in ((1, 2), (7, 10), (30, 40))},
    **{f"terminal_mean_{d}d": 2500.0 for d in (1, 7, 30)},
    **{f"terminal_cards_{d}d": n for d, n in ((1, 2), (7, 9), (30, 30))},
    "amount_to_terminal_mean_30d": 1.0,
    **{f"terminal_fraud_share_{d}d": 0.0 for d in (1, 7, 30)},
    **{f"terminal_delayed_count_{d}d": n for d, n in ((1, 2), (7, 10), (30, 40))},
    "is_weekend": 0,
    "is_night": 0,
    "amount_minor": 2500,
}
assert set(ORDINARY_FEATURES) == set(features.FEATURE_NAMES)


def featured_record(changed_features: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The bound record with an ordinary vector; single features can be replaced."""
    vector = {**ORDINARY_FEATURES, **(changed_features or {})}
    return bound_record(
        features=vector,
        feature_status="PRESENT",
        feature_revision="f-test",
        snapshot_hash=features.snapshot_hash(vector, "f-test"),
        **changes,
    )
