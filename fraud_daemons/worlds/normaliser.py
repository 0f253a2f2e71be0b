"""One row of a real file into one staged transaction, or the reason why it cannot be one.

Amounts are exact, times get their zone, identifiers become tokens, and every text is held to the limits of the event
schemas: what is imported is also admitted. No card number gets in; a value that looks like one (13 to 19 digits with a
right check digit) makes its row a reject.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final

import orjson

from fraud_daemons.clock import iso
from fraud_daemons.domain.card_numbers import CARD_FIELDS, looks_like_pan
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.domain.schemas import load_schema
from fraud_daemons.worlds.mapping import ISO_FORMAT, AmountRule, ColumnMapping, FieldRule, TimeRule, TruthRule
from fraud_daemons.worlds.sources import SourceRow

PLAIN_NUMBER: Final = re.compile(r"[+-]?\d{1,15}(\.\d{1,20})?")
EXACT: Final = Context(prec=60)  # more digits than PLAIN_NUMBER lets in: nothing is rounded
CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f]")
AMOUNT_MINOR_MAX: Final[int] = load_schema("traffic")["properties"]["amount_minor"]["maximum"]
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)  # before it there are typing errors, not card payments
FRAUD_TYPE_CHARACTERS_MAX: Final = 64


class RowReject(Exception):
    """This row cannot become a transaction; `reason` is one of few texts, `detail` says more about this row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a file that is asked for: days in the mapping's zone, both included, and the first `limit` rows."""

    from_date: date | None = None
    to_date: date | None = None
    limit: int | None = None

    def holds(self, moment: datetime) -> bool:
        """Whether the local day of `moment` is in the range."""
        day = moment.date()
        return (self.from_date is None or self.from_date <= day) and (self.to_date is None or day <= self.to_date)


EVERYTHING: Final = Selection()

# (occurred_at, tie-break, ordinal in the file, the rest as JSON): sorts into the world's total order
Staged = tuple[str, int | str, int, str]


class Normaliser:
    """One row of the file into one staged transaction, or the reason why not."""

    def __init__(self, mapping: ColumnMapping, selection: Selection) -> None:
        self._mapping = mapping
        self._selection = selection
        self._seen: dict[str, int] = {}
        self._times = TimeReader(mapping.time)
        self._fields = [(name, FieldReader(name, rule, mapping.source)) for name, rule in mapping.fields.items()]

    def __call__(self, row: SourceRow, *, ordinal: int) -> Staged | None:
        """None for a row outside the dates. Raises RowReject."""
        if row.problem:
            reason, _, detail = row.problem.partition(": ")
            raise RowReject(reason, detail)
        mapping, values = self._mapping, row.values
        local = self._times.read(values[mapping.time.column])
        if not self._selection.holds(local):
            return None
        amount_minor = read_amount(values[mapping.amount.column], mapping.amount)
        fields = {}
        for name, reader in self._fields:
            if (value := reader.read(values)) is not None:
                fields[name] = value
        fraud = _fraud(values, mapping.truth) if mapping.truth else None
        tie_break = self._tie_break(values, ordinal)
        row_id = self._row_id(values, row.line)  # last: a rejected row does not occupy its id
        # decoded, because orjson hands out its bytes with all the room of its buffer: 1.3 GB for 300,000 rows (seen)
        return iso(local), tie_break, ordinal, orjson.dumps((row_id, amount_minor, fields, fraud)).decode()

    def _row_id(self, values: dict[str, Any], line: int) -> str:
        row_id = as_text(values[self._mapping.row_id])
        if row_id is None:
            raise RowReject("row identity is blank")
        if CONTROL_CHARACTERS.search(row_id):
            raise RowReject("row identity holds a control character")
        first = self._seen.setdefault(row_id, line)
        if first != line:
            raise RowReject("row identity seen before", f"{row_id} is on line {first} already")
        return row_id

    def _tie_break(self, values: dict[str, Any], ordinal: int) -> int | str:
        """What orders rows of one instant; without a rule, their order in the file."""
        if self._mapping.tie_break is None:
            return ordinal
        text = as_text(values[self._mapping.tie_break])
        if text is None:
            raise RowReject("tie-break is blank")
        if not self._mapping.tie_break_integer:
            return text
        try:
            return int(text)
        except ValueError:
            raise RowReject("tie-break is no whole number", text[:40]) from None


class TimeReader:
    """Times of a column as datetimes in the mapping's zone."""

    def __init__(self, rule: TimeRule) -> None:
        self._rule = rule
        # a file of dates repeats few of them and strptime is slow; bounded, because files of seconds repeat none
        self._parse = lru_cache(maxsize=4096)(self._parse_text)

    def read(self, value: Any) -> datetime:
        """The instant, expressed in the mapping's zone. Raises RowReject."""
        if isinstance(value, datetime):
            return self._placed(value)
        if isinstance(value, date):
            return self._placed(datetime(value.year, value.month, value.day))  # noqa: DTZ001 - gets its zone there
        text = as_text(value)
        if text is None:
            raise RowReject("time is blank")
        return self._parse(text)

    def _parse_text(self, text: str) -> datetime:
        try:
            if self._rule.format == ISO_FORMAT:
                return self._placed(datetime.fromisoformat(text))
            return self._placed(datetime.strptime(text, self._rule.format))  # noqa: DTZ007 - gets its zone there
        except (ValueError, OverflowError):
            raise RowReject("time cannot be read", text[:40]) from None

    def _placed(self, moment: datetime) -> datetime:
        """A time without offset belongs to the mapping's zone. Of an hour that comes twice the first is meant."""
        zone = self._rule.zone
        if moment.tzinfo is None:
            local = moment.replace(tzinfo=zone)
            if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
                raise RowReject("time does not exist in its zone", moment.isoformat())
        else:
            local = moment.astimezone(zone)
        if local < EARLIEST:
            raise RowReject("time is before 1970", moment.isoformat())
        return local


class FieldReader:
    """One text field of the events from one row, held to the limits the gate will hold it to."""

    def __init__(self, name: str, rule: FieldRule, source: str) -> None:
        self._name = name
        self._rule = rule
        self._source = source
        self._limits = _schema_limits(name)

    def read(self, values: dict[str, Any]) -> str | None:
        """The value, None where the source has none. Raises RowReject."""
        rule = self._rule
        text = rule.constant if rule.column is None else as_text(values[rule.column])
        if text is None:
            if rule.required or self._name == "message_type":
                raise RowReject(f"{self._name} is blank")
            return None
        if self._name in CARD_FIELDS and looks_like_pan(text):
            # not even as a token: a hash without a key is undone by trying all numbers
            raise RowReject(f"{self._name} looks like a card number", "tokenise it at its source")
        if rule.values is not None:
            if text not in rule.values:
                raise RowReject(f"{self._name} has an unknown value", text[:40])
            text = rule.values[text]
        if rule.token:
            text = derived_id(self._name, self._source, text)
        text = rule.prefix + text
        self._check(text)
        return text

    def _check(self, text: str) -> None:
        limits = self._limits
        if len(text) > limits.length_max:
            raise RowReject(f"{self._name} is too long", f"{len(text)} characters, {limits.length_max} fit")
        if limits.pattern and not limits.pattern.search(text):
            raise RowReject(f"{self._name} has the wrong form", f"must match {limits.pattern.pattern}")
        if not text.isprintable() and CONTROL_CHARACTERS.search(text):
            raise RowReject(f"{self._name} holds a control character")


@dataclass(frozen=True, slots=True)
class Limits:
    length_max: int
    pattern: re.Pattern[str] | None


def _schema_limits(field_name: str) -> Limits:
    """The limits of a field in the event schemas, so that what is imported is also admitted."""
    for event_type in ("traffic", "arrival_events", "flow_anchors"):
        found = load_schema(event_type)["properties"].get(field_name)
        if found is not None:
            pattern = found.get("pattern") or ("^(" + "|".join(found["enum"]) + ")$" if "enum" in found else None)
            return Limits(length_max=found.get("maxLength", 64), pattern=re.compile(pattern) if pattern else None)
    raise AssertionError(f"{field_name} is in TEXT_FIELDS and in no schema")


def as_text(value: Any) -> str | None:
    """A cell as text without surrounding blanks; None when blank. Whole floats (nullable integers) lose their `.0`."""
    if value is None:
        return None
    if isinstance(value, float):
        if value != value:  # NaN is how data frames write "nothing"
            return None
        if value.is_integer():
            value = int(value)
    return str(value).strip() or None


def read_amount(value: Any, rule: AmountRule) -> int:
    """An amount in minor units, exactly. Raises RowReject.

    Text is decimal and must be exact. A binary float is read by its shortest decimal form and may be off a whole minor
    unit by `float_noise_minor_max`: 914.1500000000001 is 914.15 after somebody multiplied by five.
    """
    text = as_text(value)
    if text is None:
        raise RowReject("amount is blank")
    if not PLAIN_NUMBER.fullmatch(text):
        raise RowReject("amount is no plain number", text[:40])
    exact = Decimal(text).scaleb(rule.decimals, context=EXACT)
    minor = round(exact)
    noise = abs(exact - minor)
    if noise and (not isinstance(value, float) or noise > rule.float_noise_minor_max):
        raise RowReject("amount has more decimals than the currency", text[:40])
    if minor < rule.minimum_minor:
        raise RowReject(
            "amount is below the minimum", f"{text[:40]}; the mapping's minimum_minor is {rule.minimum_minor}"
        )
    if minor > AMOUNT_MINOR_MAX:
        raise RowReject("amount is beyond any payment", text[:40])
    return minor


def _fraud(values: dict[str, Any], rule: TruthRule) -> list[Any] | None:
    """[fraud, type] of a row that gets a label, None for one that does not. Raises RowReject."""
    word = as_text(values[rule.fraud_column]) or ""
    if word in rule.fraud_values:
        kind = as_text(values[rule.type_column]) if rule.type_column else None
        if kind is not None and rule.type_values is not None:
            if kind not in rule.type_values:
                raise RowReject("fraud type has an unknown value", kind[:40])
            kind = rule.type_values[kind]
        if kind is not None and len(kind) > FRAUD_TYPE_CHARACTERS_MAX:
            raise RowReject("fraud type is too long", f"{FRAUD_TYPE_CHARACTERS_MAX} characters fit")
        return [True, kind]
    if word not in rule.honest_values:
        raise RowReject("fraud flag has an unknown value", word[:40])
    return [False, None] if rule.label_all else None
