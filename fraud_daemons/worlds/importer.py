"""Real files become worlds: every row of the file ends as a transaction, as a reject with its reason, or outside the
part that was asked for - and the sum is checked.

Rows are normalised to a few hundred bytes each and sorted in memory (300,000 rows: some 200 MB at the peak); a file
beyond TRANSACTIONS_MAX is refused and can be imported by date range.

No card number gets in: a mapping turns identifiers into tokens, and a value that still looks like one (13 to 19 digits
with a right check digit) makes its row a reject.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.clock import iso, parse_iso
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.domain.schemas import load_schema, looks_like_pan
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.mapping import ISO_FORMAT, AmountRule, ColumnMapping, FieldRule, TimeRule, TruthRule
from fraud_daemons.worlds.progress import PROGRESS_EVERY_ROWS, Progress, reported, unseen
from fraud_daemons.worlds.sealed import REJECTS_FILE, World, file_sha256
from fraud_daemons.worlds.sealing import TRANSACTIONS_MAX, Provenance, name_problems, seal, sealing_folder
from fraud_daemons.worlds.sources import SourceRow, open_source
from fraud_daemons.worlds.transaction import Transaction, Truth

PLAIN_NUMBER: Final = re.compile(r"[+-]?\d{1,15}(\.\d{1,20})?")
EXACT: Final = Context(prec=60)  # more digits than PLAIN_NUMBER lets in: nothing is rounded
CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f]")
AMOUNT_MINOR_MAX: Final[int] = load_schema("traffic")["properties"]["amount_minor"]["maximum"]
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)  # before it there are typing errors, not card payments
CARD_NUMBER_FIELDS: Final = (
    "card_token",
    "account_id",
)  # where files of the trade keep one; a long party number may pass Luhn
FRAUD_TYPE_CHARACTERS_MAX: Final = 64
REASON_EXAMPLES: Final = 3


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


@dataclass
class Account:
    """Where every row of the file went: rows = transactions + rejects + outside_dates + beyond_limit."""

    rows: int = 0
    transactions: int = 0
    outside_dates: int = 0
    beyond_limit: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rejects(self) -> int:
        return sum(self.reasons.values())

    def check(self) -> None:
        """Raises AssertionError when a row was dropped without a trace: that is a bug, never the file's fault."""
        if self.rows != self.transactions + self.rejects + self.outside_dates + self.beyond_limit:
            raise AssertionError(f"rows are missing from the account of the import: {self}")


@dataclass(frozen=True)
class Imported:
    """The answer of an import."""

    world: World
    account: Account


# (occurred_at, tie-break, ordinal in the file, the rest as JSON): sorts into the world's total order
Staged = tuple[str, int | str, int, str]


def import_world(
    file: Path,
    *,
    mapping: ColumnMapping,
    worlds_dir: Path,
    name: str,
    selection: Selection = Selection(),
    progress: Progress = unseen,
) -> Imported:
    """Seal the transactions of `file` as world `name`; bad rows go to its rejects.ndjson.

    Raises ConfigurationError for a bad name or selection, a file or column that is not there, and when no row is left.
    """
    if problems := [*name_problems(name), *_selection_problems(selection)]:
        raise ConfigurationError(problems, source=f"import {file.name}")
    with sealing_folder(worlds_dir, name) as folder:
        account, staged = _stage(file, mapping=mapping, selection=selection, folder=folder, progress=progress)
        truths: list[Truth] = []
        world = seal(
            folder,
            worlds_dir=worlds_dir,
            name=name,
            transactions=reported(
                _transactions(staged, mapping, truths), progress, total=2 * len(staged), before=len(staged)
            ),
            truths=_in_order(truths),
            provenance=Provenance(
                source="import", currency=mapping.currency, origin=_origin(file, mapping, selection, account)
            ),
            rejects=account.rejects,
        )
    return Imported(world=world, account=account)


def _selection_problems(selection: Selection) -> Iterator[str]:
    if selection.limit is not None and selection.limit < 1:
        yield f"limit = {selection.limit}: must be at least 1"
    if selection.from_date and selection.to_date and selection.from_date > selection.to_date:
        yield f"from-date {selection.from_date} is after to-date {selection.to_date}"


def _stage(
    file: Path, *, mapping: ColumnMapping, selection: Selection, folder: Path, progress: Progress
) -> tuple[Account, list[Staged]]:
    """Every row of the file normalised and in order, and the account of the others."""
    account = Account()
    staged: list[Staged] = []
    normalise = Normaliser(mapping, selection)
    with open_source(file) as source, (folder / REJECTS_FILE).open("wb") as rejects:
        _check_columns(file, mapping, source.columns)
        for row in source.rows():
            account.rows += 1
            if account.rows % PROGRESS_EVERY_ROWS == 0:
                progress(account.rows, 2 * max(source.rows_expected, account.rows))
            try:
                one = normalise(row, ordinal=account.rows)
            except RowReject as reject:
                account.reasons[reject.reason] += 1
                rejects.write(_reject_line(row, reject))
                continue
            if one is None:
                account.outside_dates += 1
            else:
                staged.append(one)
            if len(staged) > TRANSACTIONS_MAX:
                raise ConfigurationError(
                    [f"more than {TRANSACTIONS_MAX} transactions; import a part by date"], source=f"file {file.name}"
                )
    staged.sort()
    wanted = len(staged) if selection.limit is None else min(selection.limit, len(staged))
    account.beyond_limit = len(staged) - wanted
    account.transactions = wanted
    del staged[wanted:]
    account.check()
    if not staged:
        raise ConfigurationError([_nothing_left(account)], source=f"file {file.name}")
    return account, staged


def _check_columns(file: Path, mapping: ColumnMapping, columns: Any) -> None:
    missing = [
        f"{setting} = {column!r}: the file has no such column"
        for setting, column in mapping.columns()
        if column not in columns
    ]
    if missing:
        missing.append(f"the file's columns are {', '.join(columns)}")
        raise ConfigurationError(missing, source=f"mapping {mapping.name} for {file.name}")


def _nothing_left(account: Account) -> str:
    if account.rows == 0:
        return "the file has columns but no rows"
    reasons = ", ".join(f"{reason} ({count})" for reason, count in account.reasons.most_common(REASON_EXAMPLES))
    return (
        f"none of its {account.rows} rows became a transaction: {account.outside_dates} outside the dates,"
        f" {account.rejects} rejected{': ' + reasons if reasons else ''}"
    )


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
        if self._name in CARD_NUMBER_FIELDS and looks_like_pan(text):
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


def _transactions(staged: list[Staged], mapping: ColumnMapping, truths: list[Truth]) -> Iterator[Transaction]:
    """The staged rows as transactions; what is known to be true of them is collected in `truths` on the way."""
    for occurred_at, _, _, packed in staged:
        row_id, amount_minor, fields, fraud = orjson.loads(packed)
        flow_id = derived_id("flow", mapping.source, row_id)
        if fraud is not None and mapping.truth is not None:
            truths.append(
                Truth(
                    flow_id=flow_id,
                    observed_at=iso(parse_iso(occurred_at) + mapping.truth.delay),
                    fraud=fraud[0],
                    fraud_type=fraud[1],
                    effective_time=occurred_at,
                    source_ref=f"{mapping.source}:{row_id}"[:128],
                    correction=0,
                )
            )
        yield Transaction(flow_id, occurred_at, amount_minor, mapping.currency, fields)


def _in_order(truths: list[Truth]) -> Iterator[Truth]:
    """Sorted when asked for, which is after the last transaction; labels of one instant keep the order of their flows."""
    yield from sorted(truths, key=lambda truth: truth.observed_at)


def _reject_line(row: SourceRow, reject: RowReject) -> bytes:
    reason = f"{reject.reason}: {reject.detail}" if reject.detail else reject.reason
    line = {"line": row.line, "reason": reason, "row": {name: _masked(value) for name, value in row.values.items()}}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE, default=str)


def _masked(value: Any) -> Any:
    """A cell as it is, a card number as its first six and last four digits: rejects are kept, card numbers never."""
    if isinstance(value, list):
        return [_masked(one) for one in value]
    text = as_text(value)
    return f"{text[:6]}{'*' * (len(text) - 10)}{text[-4:]}" if text and looks_like_pan(text) else value


def _origin(file: Path, mapping: ColumnMapping, selection: Selection, account: Account) -> dict[str, Any]:
    """Where the world came from. The file's name without its folder: a manifest travels, paths do not."""
    return {
        "file": file.name,
        "file_sha256": file_sha256(file),
        "mapping": mapping.name,
        "mapping_sha256": mapping.digest,
        "from_date": selection.from_date and selection.from_date.isoformat(),
        "to_date": selection.to_date and selection.to_date.isoformat(),
        "limit": selection.limit,
        "rows": account.rows,
        "outside_dates": account.outside_dates,
        "beyond_limit": account.beyond_limit,
        "reject_reasons": dict(sorted(account.reasons.items())),
    }
