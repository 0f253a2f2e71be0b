"""Which transactions count as fraud as of a time, against the plain rule of `domain.labels`."""

from __future__ import annotations

import timeit

from hypothesis import given
from hypothesis import strategies as st

from fraud_daemons.domain.fraud_windows import ALWAYS, FlowLabel, FraudWindow, Place, changes_of
from fraud_daemons.domain.labels import FRAUD_DISPOSITION, as_of

LABELS = st.lists(
    st.builds(
        FlowLabel,
        label_id=st.integers(0, 99).map(str),
        value=st.sampled_from(["FRAUD", "LEGIT"]),
        source=st.sampled_from(["EXTERNAL", "AUTO"]),
        observed=st.integers(0, 9),
        supersedes=st.none() | st.integers(0, 99).map(str),
    ),
    max_size=4,
    unique_by=lambda label: label.label_id,
)


def is_fraud(labels: list[FlowLabel], time: int) -> bool:
    told = [{**label._asdict(), "type": FRAUD_DISPOSITION, "observed_time": label.observed} for label in labels]
    found = as_of(told, time)
    return found is not None and found["value"] == "FRAUD"


@given(LABELS)
def test_changes_are_the_labels_as_of_each_time(labels: list[FlowLabel]) -> None:
    """Adding up the changes until a time says what the as-of rule says at that time."""
    changes = changes_of(labels)
    for time in range(-1, 11):
        assert sum(delta for observed, delta in changes if observed <= time) == is_fraud(labels, time)


@given(
    st.lists(st.tuples(st.integers(0, 9), LABELS), max_size=12),
    st.lists(st.tuples(st.integers(-1, 11), st.integers(-1, 9), st.integers(-1, 10)), max_size=8),
)
def test_a_count_is_a_plain_count_whatever_is_asked_in_between(
    told: list[tuple[int, list[FlowLabel]]], questions: list[tuple[int, int, int]]
) -> None:
    """Labels of flows come, are corrected and are asked about at earlier and later times: always the plain count."""
    window = FraudWindow()
    known: dict[Place, list[FlowLabel]] = {}
    for step, (occurred, labels) in enumerate(told):
        place = (occurred, step % 3, step % 5)
        known[place] = labels
        window.put(place, changes_of(labels))
        for time, after, up_to in questions:
            expected = sum(
                is_fraud(labels, time)
                for (at, seq, _), labels in known.items()
                if after < at and (at, seq) < (up_to, 0)
            )
            assert window.count(time, after=after, up_to=(up_to, 0)) == max(0, expected)
    assert len(window) == sum(bool(changes_of(labels)) for labels in known.values())
    window.prune(4)
    assert window.count(99, after=-1, up_to=(99, 0)) == sum(
        is_fraud(labels, 99) for (at, _, _), labels in known.items() if at > 4
    )


def test_what_a_person_decided_holds_for_every_record_behind_it() -> None:
    """A person's word counts whatever the event time, over any feed's; the newer one of two persons counts."""
    feed = FlowLabel("a", "FRAUD", "EXTERNAL", 5, None)
    cleared, guilty = FlowLabel("b", "LEGIT", "HUMAN", 10**15, None), FlowLabel("c", "FRAUD", "HUMAN", 10**15 + 1, None)
    assert changes_of([feed]) == [(5, 1)]
    assert changes_of([feed, cleared]) == []
    assert changes_of([feed, cleared, guilty]) == [(ALWAYS, 1)]
    assert changes_of([]) == []


def test_ten_thousand_frauds_cost_a_count_no_more_than_ten() -> None:
    """A count in event order, with a label coming in each time: at most twenty times that of a quiet terminal."""

    def best(size: int) -> float:
        window = FraudWindow()
        for n in range(size):
            window.put((n, n, n), [(n + 7, 1)])

        def step(at: list[int] = [size]) -> None:  # noqa: B006
            n = at[0] = at[0] + 1
            window.put((n, n, n), [(n + 7, 1)])
            window.count(n, after=n - size, up_to=(n - 7, 0))

        return min(timeit.repeat(step, number=50, repeat=10))

    assert best(10_000) < 20 * best(10)
