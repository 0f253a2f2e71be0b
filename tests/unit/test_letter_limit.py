"""How much of a stream may become dead letters: a run, or a share."""

from __future__ import annotations

import pytest

from fraud_daemons.errors import FatalFault
from fraud_daemons.runtime.letter_limit import LetterLimit


def _take(limit: LetterLimit, *, records: int, letters: int) -> None:
    limit.refuse_beyond(records=records, letters=letters, topic="decisions", reason="postgres: 22P02")
    limit.count(records=records, letters=letters)


def _poison_two_of_three(limit: LetterLimit) -> tuple[int, str]:
    """After how many batches of three it is refused, and why."""
    for batch in range(1, 10_000):
        try:
            _take(limit, records=3, letters=2)
        except FatalFault as fault:
            return batch, fault.reason
    return 10_000, ""


def test_a_run_without_one_good_record_is_borne_up_to_the_limit() -> None:
    """The limit itself is borne, one more is not; a good record in between begins anew."""
    limit = LetterLimit(run_max=3, share_max=1.0)
    for _ in range(3):
        _take(limit, records=1, letters=1)
    _take(limit, records=5, letters=1)
    for _ in range(3):
        _take(limit, records=1, letters=1)
    with pytest.raises(FatalFault) as caught:
        _take(limit, records=1, letters=1)
    assert caught.value.reason == "decisions: too many dead letters in a row (postgres: 22P02)"


def test_a_batch_of_letters_counts_as_many() -> None:
    """A handler that sets a whole batch aside is stopped before the batch is committed."""
    limit = LetterLimit(run_max=3, share_max=1.0)
    with pytest.raises(FatalFault):
        limit.refuse_beyond(records=4, letters=4, topic="t", reason="r")
    assert limit.letters == 0


def test_a_share_that_lasts_is_refused_and_a_burst_is_not() -> None:
    """Two of three records poison: no long run, and yet stopped soon; as many letters among many good ones pass."""
    refused_after, reason = _poison_two_of_three(LetterLimit(run_max=100, share_max=0.5))
    assert 100 < refused_after * 2 <= 104
    assert reason.startswith("decisions: too large a share of dead letters")
    patient = LetterLimit(run_max=100, share_max=0.5)
    for _ in range(1000):
        _take(patient, records=3, letters=1)


def test_what_is_long_past_is_forgotten() -> None:
    """A million good records do not buy room for a stream that has turned bad."""
    limit = LetterLimit(run_max=100, share_max=0.5)
    for _ in range(10_000):
        _take(limit, records=100, letters=0)
    refused_after, _ = _poison_two_of_three(limit)
    assert refused_after * 3 < 5000
