"""Label assertions, the as-of rule, maturity."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain.labels import (
    Maturity,
    as_of,
    assertion_from_truth,
    assertions_from_resolution,
    maturity,
)

RUN = "platform_20260101T000000Z"
NOW = "2026-01-01T00:00:00.000000Z"


def day(number: int) -> str:
    return f"2018-07-{number:02d}T12:00:00.000000Z"


def truth(*, correction: int, observed: str, fraud: bool = True) -> dict[str, Any]:
    event = {
        "occurred_at": observed,
        "pins": {"platform_run_id": RUN},
        "payload": {
            "flow_id": "f1",
            "fraud": fraud,
            "fraud_type": "CNPA",
            "effective_time": day(1),
            "source_ref": None,
            "correction": correction,
        },
    }
    return assertion_from_truth(event, recorded_at=NOW)


def resolution(disposition: str, *, at: str) -> dict[str, Any]:
    flows = [{"flow_id": "f1", "occurred_at": day(1)}]
    return {
        "case_id": "k",
        "platform_run_id": RUN,
        "entry": 4,
        "disposition": disposition,
        "flows": flows,
        "at": at,
    }


def test_a_label_is_unknown_before_it_was_observed() -> None:
    """An as-of read the day before is empty, at the very moment it is not."""
    label = truth(correction=0, observed=day(8))
    assert as_of([label], day(7)) is None
    assert as_of([label], day(8)) == label


def test_a_correction_supersedes_and_both_stay_readable() -> None:
    """The old value holds until the correction was observed, then the new one."""
    first = truth(correction=0, observed=day(8))
    second = truth(correction=1, observed=day(10), fraud=False)
    assert second["supersedes"] == first["label_id"]
    assert as_of([second, first], day(9)) == first
    assert as_of([first, second], day(10)) == second
    assert (first["value"], second["value"], second["fraud_type"]) == ("FRAUD", "LEGIT", None)


def test_a_correction_at_the_same_moment_wins() -> None:
    """The order of corrections decides, not the accident of ids."""
    first, second = truth(correction=0, observed=day(8)), truth(correction=1, observed=day(8), fraud=False)
    assert as_of([first, second], day(8)) == as_of([second, first], day(8)) == second


def test_a_person_outranks_the_feed_even_when_the_feed_is_newer() -> None:
    """HUMAN > EXTERNAL > AUTO comes before the time of observation."""
    (human,) = assertions_from_resolution(resolution("LEGIT", at=day(5)), recorded_at=NOW)
    external = truth(correction=0, observed=day(8))
    automatic = {**external, "label_id": "0" * 32, "source": "AUTO", "observed_time": day(20)}
    assert as_of([external, human, automatic], day(30)) == human
    assert as_of([external, automatic], day(30)) == external
    assert as_of([external, human], day(4)) is None


def test_an_inconclusive_case_labels_nothing() -> None:
    """Only FRAUD and LEGIT become assertions."""
    assert assertions_from_resolution(resolution("INCONCLUSIVE", at=day(5)), recorded_at=NOW) == []


def test_types_do_not_mix() -> None:
    """A chargeback status says nothing about the fraud disposition."""
    chargeback = {**truth(correction=0, observed=day(8)), "type": "chargeback_status"}
    assert as_of([chargeback], day(9)) is None
    assert as_of([chargeback], day(9), label_type="chargeback_status") == chargeback


@given(st.permutations([truth(correction=n, observed=day(8 + n), fraud=n % 2 == 0) for n in range(4)]))
def test_the_order_of_storage_does_not_matter(assertions: list[dict[str, Any]]) -> None:
    """As-of is a function of the set of assertions and the time."""
    assert as_of(assertions, day(10))["observed_time"] == day(10)  # type: ignore[index]


def test_an_unlabelled_flow_is_immature_and_not_legit() -> None:
    """Only after the horizon does silence mean anything."""
    label = truth(correction=0, observed=day(8))
    assert maturity(None, occurred_at=day(1), at=day(7), horizon_days=7) is Maturity.IMMATURE
    assert maturity(None, occurred_at=day(1), at=day(8), horizon_days=7) is Maturity.MATURE_UNLABELLED
    assert maturity(label, occurred_at=day(1), at=day(2), horizon_days=7) is Maturity.LABELLED
