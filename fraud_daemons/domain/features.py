"""Exact event-time windows per entity, and the feature vector of a transaction as of its place in the order.

Everything is a function of event time and order; nothing expires by a clock. A card's (or terminal's) window is
`(t - w, t]`, the transaction itself included; of rows at the very same instant those up to its place in the total
order count. The delayed windows of a terminal are `(t - d - w, t - d]` for a label delay of d days: the past whose
labels have had d days to arrive. What a record has no card or terminal for is null, never zero.

The fraud share is the part of a terminal's delayed window whose labels said fraud by t (`fraud_windows`), and 0 where that
window is empty, as the Handbook defines it. A transaction's own label never counts for itself.

Times are integer microseconds since 1970-01-01 UTC, amounts integer minor units; sums are exact integers and a mean is
one division, so equal rows give equal bits whatever order they arrived in.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fraud_daemons.domain.fraud_windows import FraudWindow
from fraud_daemons.domain.identity import canonical_json

SECOND_MICROSECONDS: Final = 1_000_000
HOUR_MICROSECONDS: Final = 3_600 * SECOND_MICROSECONDS
DAY_MICROSECONDS: Final = 24 * HOUR_MICROSECONDS

WINDOW_DAYS: Final = (1, 7, 30)
LABEL_DELAY_DAYS: Final = 7
"""The default delay: investigators' labels in the Handbook's protocol are seven days old."""

NIGHT_LAST_HOUR: Final = 6  # hours 0 to 6, as in the Handbook

Number = int | float
Vector = dict[str, Number | None]
Row = tuple[int, int, int, int | None]
"""(occurred_at in microseconds, source_seq, amount_minor, key of who was on the other side: terminal of a card, card of a
terminal; None where that is not known)"""

PRUNED_ROWS: Final = 10_000
"""So many old rows are cut off at once, or a quarter of a smaller window: a cut moves the rest."""

SCANNED_ROWS_MAX: Final = 128
"""Distinct counts of a window up to this size are taken by looking at its rows, of a larger one by what came and went."""

_UNKNOWN: Final = -(2**63)
"""In a window's columns: nobody is known on the other side. A key is this with a chance of one in 2**64, as two keys are equal."""

_BASE_MAX: Final = 2**62
"""Beyond it the running sums of a window begin anew at its next cut, so that they stay within 64 bits."""

DEFINITIONS: Final = {
    "card_{count,sum,mean}_{1,7,30}d": "(t-w, t] by card, the current transaction included, ties by source_seq",
    "terminal_{count,sum,mean}_{1,7,30}d": "(t-w, t] by terminal_id, else merchant_id",
    "terminal_delayed_count_{1,7,30}d": "(t-d-w, t-d] by terminal_id, else merchant_id",
    "terminal_fraud_share_{1,7,30}d": "of terminal_delayed_count those whose fraud_disposition was FRAUD by t; 0 when empty",
    "card_terminals_{1,7,30}d": "distinct terminals (else merchants) of card_count, unknown ones apart",
    "terminal_cards_{1,7,30}d": "distinct cards of terminal_count, unknown ones apart",
    "is_weekend": "1 on Saturday and Sunday UTC",
    "is_night": "1 from 00:00 to 06:59 UTC",
    "amount_minor": "as in traffic",
    "amount_to_card_mean_30d": "amount_minor / card_mean_30d",
    "amount_to_terminal_mean_30d": "amount_minor / terminal_mean_30d",
    "mean": "sum / count in minor units; null where the entity is unknown or the window empty",
}
"""What each family of features means; change a meaning and the revision changes with it."""

FEATURE_REVISION: Final = "f" + hashlib.sha256(canonical_json(DEFINITIONS)).hexdigest()[:12]
"""Changes whenever a definition changes. `feature_revision` adds the label delay, which the values depend on too."""

_CARD: Final = tuple(
    (f"card_count_{d}d", f"card_sum_{d}d", f"card_mean_{d}d", f"card_terminals_{d}d") for d in WINDOW_DAYS
)
_TERMINAL: Final = tuple(
    (f"terminal_count_{d}d", f"terminal_sum_{d}d", f"terminal_mean_{d}d", f"terminal_cards_{d}d") for d in WINDOW_DAYS
)
_DELAYED: Final = tuple((f"terminal_delayed_count_{d}d", f"terminal_fraud_share_{d}d") for d in WINDOW_DAYS)
_WIDTHS: Final = tuple(d * DAY_MICROSECONDS for d in WINDOW_DAYS)

CARD_FEATURES: Final = (*(name for names in _CARD for name in names), "amount_to_card_mean_30d")
TERMINAL_FEATURES: Final = (
    *(name for names in _TERMINAL for name in names),
    "amount_to_terminal_mean_30d",
    *(name for names in _DELAYED for name in names),
)
FEATURE_NAMES: Final = (*CARD_FEATURES, *TERMINAL_FEATURES, "is_weekend", "is_night", "amount_minor")


def feature_revision(label_delay_days: int) -> str:
    """The revision stored with vectors: definitions and label delay, such as `f0123456789ab-d7`."""
    return f"{FEATURE_REVISION}-d{label_delay_days}"


_AFTER: Final = 2**62  # behind every place of an instant
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(occurred_at: str) -> int:
    """A time in `clock.iso` text as microseconds since the epoch, exact."""
    since = datetime.fromisoformat(occurred_at) - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_MICROSECONDS + since.microseconds


def retention_microseconds(*, label_delay_days: int, lateness_seconds: float) -> int:
    """How far behind the newest record a row may still be asked for: the widest window, the delay, the lateness."""
    days = max(WINDOW_DAYS) + label_delay_days
    return days * DAY_MICROSECONDS + int(lateness_seconds * SECOND_MICROSECONDS)


def terminal_key(record: Mapping[str, Any]) -> str | None:
    """The entity whose terminal windows a record belongs to: `t:<terminal_id>`, else `m:<merchant_id>`, else None."""
    if record["terminal_id"]:
        return f"t:{record['terminal_id']}"
    if record["merchant_id"]:
        return f"m:{record['merchant_id']}"
    return None


class _Moving:
    """Who is within rows [start, end), moved along with a window: each row comes once and goes once."""

    __slots__ = ("counts", "end", "start")

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.counts: dict[int, int] = {}

    def put(self, other: int, number: int) -> None:
        if other != _UNKNOWN:
            left = self.counts.get(other, 0) + number
            if left:
                self.counts[other] = left
            else:
                del self.counts[other]

    def move(self, others: array[int], start: int, end: int) -> int:
        """Go to these rows and count who is there."""
        for i in range(self.end, end):
            self.put(others[i], 1)
        for i in range(start, self.start):
            self.put(others[i], 1)
        for i in range(end, self.end):
            self.put(others[i], -1)
        for i in range(self.start, start):
            self.put(others[i], -1)
        self.start, self.end = start, end
        return len(self.counts)

    def make_room(self, at: int, other: int) -> None:
        """A late row came in at `at`."""
        if at < self.start:
            self.start += 1
            self.end += 1
        elif at < self.end:
            self.put(other, 1)
            self.end += 1

    def cut(self, others: array[int], old: int) -> None:
        """The first `old` rows go."""
        for i in range(self.start, min(old, self.end)):
            self.put(others[i], -1)
        self.start, self.end = max(0, self.start - old), max(0, self.end - old)


_NONE_MOVING: Final[Mapping[int, _Moving]] = {}
"""Shared by all windows too small to need any."""


class EntityWindow:
    """The retained rows of one card or terminal, sorted by (time, source_seq), with running sums: four columns of 64 bits.

    Appending in order is O(1); a late row costs a shift of the rows after it, which are few when it is a little late.
    A query is a few bisections, whatever the size. Rows with an equal (time, source_seq) are both kept: the caller
    dedupes by flow (`contains` helps), since two live producers may share a place.
    """

    __slots__ = ("_moving", "_others", "_seqs", "_sums", "_times", "frauds", "key")

    def __init__(self) -> None:
        self.key = 0
        """What this entity is called in the windows of those on the other side, where somebody keeps it here."""
        self.frauds: FraudWindow | None = None
        """Of a terminal: what labels say about its transactions; None as long as there is none."""
        self._moving: Mapping[int, _Moving] = _NONE_MOVING
        self._times = array("q")
        self._seqs = array("q")
        self._others = array("q")
        self._sums = array("q", (0,))  # _sums[i] = base + amounts of the first i rows; only differences are ever used

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> EntityWindow:
        """A window of rows already sorted by (time, source_seq); the way back from storage."""
        window = cls()
        total = 0
        for time, seq, amount, other in rows:
            total += amount
            window._others.append(_UNKNOWN if other is None else other)
            window._times.append(time)
            window._seqs.append(seq)
            window._sums.append(total)
        return window

    def __len__(self) -> int:
        return len(self._times)

    def labelled(self) -> int:
        """How many of its transactions have labels."""
        return 0 if self.frauds is None else len(self.frauds)

    def first_time(self) -> int | None:
        """When the oldest retained row occurred."""
        return self._times[0] if self._times else None

    def rows(self) -> Iterator[Row]:
        """All retained rows in order."""
        sums = self._sums
        for i, (time, seq, other) in enumerate(zip(self._times, self._seqs, self._others, strict=True)):
            yield time, seq, sums[i + 1] - sums[i], None if other == _UNKNOWN else other

    def contains(self, time: int, seq: int) -> bool:
        """True when a row stands at exactly this place."""
        end = self._end(time, seq)
        return end > 0 and self._times[end - 1] == time and self._seqs[end - 1] == seq

    def add(self, time: int, seq: int, amount_minor: int, other: int | None = None) -> bool:
        """Put a row at its place; True when it came late, that is before one that was already there."""
        times, seqs, sums = self._times, self._seqs, self._sums
        if other is None:
            other = _UNKNOWN
        if not times or time > times[-1] or (time == times[-1] and seq >= seqs[-1]):
            times.append(time)
            seqs.append(seq)
            sums.append(sums[-1] + amount_minor)
            self._others.append(other)
            return False
        at = self._end(time, seq)
        times.insert(at, time)
        seqs.insert(at, seq)
        self._others.insert(at, other)
        for moving in self._moving.values():
            moving.make_room(at, other)
        sums[at + 1 :] = array("q", (sums[at] + amount_minor, *(total + amount_minor for total in sums[at + 1 :])))
        return True

    def remove(self, time: int, seq: int) -> bool:
        """Take the row at this place out again (an undone step); True when there was one."""
        if not self.contains(time, seq):
            return False
        at = self._end(time, seq) - 1
        amount = self._sums[at + 1] - self._sums[at]
        del self._times[at], self._seqs[at], self._others[at]
        self._moving = _NONE_MOVING
        self._sums[at + 1 :] = array("q", (total - amount for total in self._sums[at + 2 :]))
        return True

    def prune(self, horizon: int) -> int:
        """Forget rows at or before `horizon`; returns how many went.

        Waits until a quarter of the rows is old, or PRUNED_ROWS: cutting one row off the front of a million on every
        record would cost a move of the whole list each time. Rows kept too long change no answer within the retention.
        """
        old = bisect_right(self._times, horizon)
        if old == 0 or (old * 4 < len(self._times) and old < PRUNED_ROWS):
            return 0
        for moving in self._moving.values():
            moving.cut(self._others, old)
        del self._times[:old], self._seqs[:old], self._sums[:old], self._others[:old]
        if (base := self._sums[0]) > _BASE_MAX:
            self._sums = array("q", (total - base for total in self._sums))
        if self.frauds is not None:
            self.frauds.prune(horizon)
        return old

    def count_and_sum(self, time: int, seq: int, width: int) -> tuple[int, int]:
        """Rows and minor units in `(time - width, time]`, counting at `time` itself only up to place `seq`."""
        end = self._end(time, seq)
        start = bisect_right(self._times, time - width, 0, end)
        return end - start, self._sums[end] - self._sums[start]

    def delayed_count_and_sum(self, time: int, seq: int, delay: int, width: int) -> tuple[int, int]:
        """Rows and minor units in `(time - delay - width, time - delay]`; without delay as `count_and_sum`."""
        if delay == 0:
            return self.count_and_sum(time, seq, width)
        end = bisect_right(self._times, time - delay)
        start = bisect_right(self._times, time - delay - width, 0, end)
        return end - start, self._sums[end] - self._sums[start]

    def distinct(self, width: int, start: int, end: int) -> int:
        """How many others there are in rows [start, end), the window of this width; unknown ones do not count."""
        if end - start <= SCANNED_ROWS_MAX:
            found = set(self._others[start:end])
            found.discard(_UNKNOWN)
            return len(found)
        moving = self._moving.get(width)
        if moving is None:
            moving = _Moving(start)
            self._moving = {**self._moving, width: moving}
        return moving.move(self._others, start, end)

    def _end(self, time: int, seq: int) -> int:
        """Number of rows whose place is at or before (time, seq)."""
        times = self._times
        end = bisect_right(times, time)
        if end == 0 or times[end - 1] != time or self._seqs[end - 1] <= seq:
            return end
        return bisect_right(self._seqs, seq, bisect_left(times, time, 0, end), end)


def vector(
    card_window: EntityWindow | None,
    terminal_window: EntityWindow | None,
    record: Mapping[str, Any],
    label_delay_days: int = LABEL_DELAY_DAYS,
) -> Vector:
    """The features of a `flows.bound` record, in the order of FEATURE_NAMES.

    The windows must already hold the record itself; give None for an entity the record does not name.
    """
    time, seq = microseconds(record["occurred_at"]), record["source_seq"]
    amount: int = record["traffic"]["amount_minor"]
    features: Vector = {}
    mean = _add_windows(features, _CARD, card_window, time, seq)
    features["amount_to_card_mean_30d"] = amount / mean if mean else None
    mean = _add_windows(features, _TERMINAL, terminal_window, time, seq)
    features["amount_to_terminal_mean_30d"] = amount / mean if mean else None
    _add_delayed(features, terminal_window, time, seq, label_delay_days * DAY_MICROSECONDS)
    features["is_weekend"] = 1 if (time // DAY_MICROSECONDS + 3) % 7 >= 5 else 0  # day 0 was a Thursday
    features["is_night"] = 1 if time // HOUR_MICROSECONDS % 24 <= NIGHT_LAST_HOUR else 0
    features["amount_minor"] = amount
    return features


def _add_delayed(features: Vector, window: EntityWindow | None, time: int, seq: int, delay: int) -> None:
    """Count and fraud share of `(t - d - w, t - d]` per width; without delay up to the record itself."""
    if window is None:
        features.update(dict.fromkeys(name for two in _DELAYED for name in two))
        return
    up_to = (time - delay, _AFTER) if delay else (time, seq)  # never the record's own label
    for (count_name, share_name), width in zip(_DELAYED, _WIDTHS, strict=True):
        count = window.delayed_count_and_sum(time, seq, delay, width)[0]
        frauds = 0
        if count and window.frauds is not None:
            frauds = window.frauds.count(time, after=time - delay - width, up_to=up_to)
        features[count_name] = count
        features[share_name] = frauds / count if count else 0.0


def _add_windows(
    features: Vector, names: tuple[tuple[str, str, str, str], ...], window: EntityWindow | None, time: int, seq: int
) -> float | None:
    """Count, sum and mean per width; returns the mean of the widest. One bisection finds the end for all widths."""
    if window is None:
        features.update(dict.fromkeys(name for four in names for name in four))
        return None
    times, sums = window._times, window._sums
    end = window._end(time, seq)
    start, total, mean = end, sums[end], None
    for (count_name, sum_name, mean_name, distinct_name), width in zip(names, _WIDTHS, strict=True):
        start = bisect_right(times, time - width, 0, start)  # a wider window starts no later
        count, amount = end - start, total - sums[start]
        mean = amount / count if count else None
        features[count_name] = count
        features[sum_name] = amount
        features[mean_name] = mean
        features[distinct_name] = window.distinct(width, start, end)
    return mean


def snapshot_hash(features: Mapping[str, Number | None], revision: str) -> str:
    """SHA-256 hex of a vector under its revision: equal vectors have equal hashes."""
    return hashlib.sha256(canonical_json({"features": features, "revision": revision})).hexdigest()
