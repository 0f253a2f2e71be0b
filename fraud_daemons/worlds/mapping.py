"""What the columns of a real file mean: a TOML mapping, parsed once into a frozen object, every problem reported.

A mapping says which column or constant fills which field of the events, how time and money are written, what
identifies a row, what breaks a tie between rows of one instant, and where truth is and when it was observed. A key
that this module does not know is refused: a misspelt option must not be a silent default.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fraud_daemons.config.settings import currency as currency_problem
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.transaction import TEXT_FIELDS

ISO_FORMAT: Final = "iso"
SOURCE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
TIE_BREAKS: Final = ("integer", "text")
TRUTH_LABELS: Final = ("frauds", "all")
DELAY_DAYS_MAX: Final = 3650

# table -> {key: type}; the only list of what a mapping may say
KEYS: Final[Mapping[str, Mapping[str, type | tuple[type, ...]]]] = {
    "": {"source": str, "currency": str, "row": dict, "time": dict, "amount": dict, "fields": dict, "truth": dict},
    "row": {"id": str, "tie_break": str, "tie_break_as": str},
    "time": {"column": str, "format": str, "zone": str},
    "amount": {"column": str, "decimals": int, "minimum_minor": int, "float_noise_minor_max": (int, float)},
    "fields": {"column": str, "constant": str, "prefix": str, "token": bool, "required": bool, "values": dict},
    "truth": {
        "fraud_column": str,
        "fraud_values": list,
        "honest_values": list,
        "type_column": str,
        "type_values": dict,
        "delay_days": int,
        "labels": str,
    },
}
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("source", "currency", "row", "time", "amount", "fields"),
    "row": ("id",),
    "time": ("column", "format"),
    "amount": ("column", "decimals"),
    "truth": ("fraud_column", "fraud_values", "honest_values", "delay_days"),
}


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one text field of the events is filled."""

    column: str | None
    constant: str | None = None
    prefix: str = ""
    token: bool = False
    """Replace the value by a derived token; the source's own number never leaves the importer."""
    required: bool = False
    """A blank value makes the row a reject instead of a null."""
    values: Mapping[str, str] | None = None
    """Translation; a value that is not in it makes the row a reject."""


@dataclass(frozen=True, slots=True)
class TimeRule:
    column: str
    format: str
    """`iso` or a strptime pattern; columns that are already times or dates need no parsing."""
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class AmountRule:
    column: str
    decimals: int
    minimum_minor: int
    float_noise_minor_max: float
    """How far a binary float may be from a whole minor unit; text is always exact."""


@dataclass(frozen=True, slots=True)
class TruthRule:
    fraud_column: str
    fraud_values: frozenset[str]
    honest_values: frozenset[str]
    type_column: str | None
    type_values: Mapping[str, str] | None
    delay: timedelta
    label_all: bool
    """Whether honest rows get a label too, or only frauds."""


@dataclass(frozen=True)
class ColumnMapping:
    """A checked mapping. `digest` is the SHA-256 of its file, for the manifest."""

    name: str
    source: str
    currency: str
    row_id: str
    tie_break: str | None
    tie_break_integer: bool
    time: TimeRule
    amount: AmountRule
    fields: Mapping[str, FieldRule]
    truth: TruthRule | None
    digest: str

    def columns(self) -> Iterator[tuple[str, str]]:
        """Every (setting, column) the mapping names."""
        yield "row.id", self.row_id
        if self.tie_break:
            yield "row.tie_break", self.tie_break
        yield "time.column", self.time.column
        yield "amount.column", self.amount.column
        for field, rule in self.fields.items():
            if rule.column is not None:
                yield f"fields.{field}.column", rule.column
        if self.truth:
            yield "truth.fraud_column", self.truth.fraud_column
            if self.truth.type_column:
                yield "truth.type_column", self.truth.type_column


def find_mapping(name_or_path: str, mappings_dir: Path) -> Path:
    """The file of a mapping given by path or by its name in `mappings_dir`. Raises ConfigurationError."""
    named = mappings_dir / f"{name_or_path}.toml"
    for path in (named, Path(name_or_path)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in mappings_dir.glob("*.toml"))) or "none"
    raise ConfigurationError(
        [f"there is no mapping {name_or_path!r}; known: {known}; or give a path"], source="mapping"
    )


def load_mapping(path: Path) -> ColumnMapping:
    """The mapping in a TOML file, checked. Raises ConfigurationError with every problem found."""
    source = f"mapping {path.stem} ({path})"
    try:
        raw = path.read_bytes()
        document = tomllib.loads(raw.decode())
    except OSError as error:
        raise ConfigurationError([f"cannot be read ({error.strerror})"], source=source) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"not valid TOML: {error}"], source=source) from error
    problems = [*_shape_problems(document)]
    if not problems:  # the checks below rely on the right keys with the right types
        problems = [*_content_problems(document)]
    if problems:
        raise ConfigurationError(problems, source=source)
    return _build(path.stem, document, hashlib.sha256(raw).hexdigest())


def _shape_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Unknown, missing and wrongly typed keys of every table."""
    yield from _table_problems("", "", document)
    for table in ("row", "time", "amount", "truth"):
        if isinstance(document.get(table), dict):
            yield from _table_problems(table, f"{table}.", document[table])
    fields = document.get("fields")
    for field, content in fields.items() if isinstance(fields, dict) else ():
        if field not in TEXT_FIELDS:
            yield f"fields.{field}: no such field; known: {', '.join(TEXT_FIELDS)}"
        elif not isinstance(content, dict):
            yield f"fields.{field}: must be a table with column or constant"
        else:
            yield from _table_problems("fields", f"fields.{field}.", content)


def _table_problems(table: str, prefix: str, content: Mapping[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        wanted = KEYS[table].get(key)
        if wanted is None:
            yield f"{prefix}{key}: no such key; known: {', '.join(KEYS[table])}"
        elif not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            yield f"{prefix}{key} = {value!r}: must be {_words(wanted)}"
    for key in REQUIRED.get(table, ()):
        if key not in content:
            yield f"{prefix}{key}: missing"


def _content_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with values of the right type."""
    if not SOURCE_NAME.fullmatch(document["source"]):
        yield f"source = {document['source']!r}: must be lower-case letters, digits, '-' and '_'; it is part of every flow id"
    if wrong := currency_problem(document["currency"]):
        yield f"currency = {document['currency']!r}: {wrong}"
    tie_break_as = document["row"].get("tie_break_as", "text")
    if tie_break_as not in TIE_BREAKS:
        yield f"row.tie_break_as = {tie_break_as!r}: must be one of {', '.join(TIE_BREAKS)}"
    yield from _time_problems(document["time"])
    if not 0 <= document["amount"]["decimals"] <= 4:
        yield "amount.decimals: must be between 0 and 4, the decimals of the currency"
    if document["amount"].get("minimum_minor", 1) < 0:
        yield "amount.minimum_minor: must not be negative; refunds are messages of their own"
    if not 0 <= document["amount"].get("float_noise_minor_max", 0) < 0.01:
        yield "amount.float_noise_minor_max: must be at least 0 and below 0.01 minor units"
    for field, content in document["fields"].items():
        if ("column" in content) == ("constant" in content):
            yield f"fields.{field}: needs exactly one of column and constant"
        if not all(isinstance(value, str) for value in content.get("values", {}).values()):
            yield f"fields.{field}.values: must translate texts to texts"
    if "message_type" not in document["fields"]:
        yield "fields.message_type: missing; every transaction needs one, a constant will do"
    if "truth" in document:
        yield from _truth_problems(document["truth"])


def _time_problems(time: Mapping[str, Any]) -> Iterator[str]:
    if time["format"] != ISO_FORMAT:
        try:
            datetime.strptime(datetime(2018, 7, 18, 13, 14, 15, tzinfo=UTC).strftime(time["format"]), time["format"])  # noqa: DTZ007 - only a trial
        except ValueError as error:
            yield f"time.format = {time['format']!r}: must be 'iso' or a strptime pattern ({error})"
    if _zone(time.get("zone", "UTC")) is None:
        yield f"time.zone = {time['zone']!r}: no such time zone on this machine (IANA name, or UTC which is always there)"


def _truth_problems(truth: Mapping[str, Any]) -> Iterator[str]:
    frauds, honest = truth["fraud_values"], truth["honest_values"]
    if not all(isinstance(value, str) for value in (*frauds, *honest, *truth.get("type_values", {}).values())):
        yield "truth: fraud_values, honest_values and type_values must hold texts"
    elif not frauds or set(frauds) & set(honest):
        yield "truth.fraud_values: must not be empty and share nothing with honest_values"
    if not 0 <= truth["delay_days"] <= DELAY_DAYS_MAX:
        yield f"truth.delay_days = {truth['delay_days']}: must be between 0 and {DELAY_DAYS_MAX}"
    if truth.get("labels", "frauds") not in TRUTH_LABELS:
        yield f"truth.labels = {truth['labels']!r}: must be one of {', '.join(TRUTH_LABELS)}"


def _build(name: str, document: Mapping[str, Any], digest: str) -> ColumnMapping:
    row, time, amount = document["row"], document["time"], document["amount"]
    zone = _zone(time.get("zone", "UTC"))
    assert zone is not None  # noqa: S101 - checked before; for the type checker
    return ColumnMapping(
        name=name,
        source=document["source"],
        currency=document["currency"],
        row_id=row["id"],
        tie_break=row.get("tie_break"),
        tie_break_integer=row.get("tie_break_as", "text") == "integer",
        time=TimeRule(column=time["column"], format=time["format"], zone=zone),
        amount=AmountRule(
            column=amount["column"],
            decimals=amount["decimals"],
            minimum_minor=amount.get("minimum_minor", 1),
            float_noise_minor_max=float(amount.get("float_noise_minor_max", 0)),
        ),
        fields={field: FieldRule(**{"column": None, **content}) for field, content in document["fields"].items()},
        truth=_truth(document["truth"]) if "truth" in document else None,
        digest=digest,
    )


def _truth(truth: Mapping[str, Any]) -> TruthRule:
    return TruthRule(
        fraud_column=truth["fraud_column"],
        fraud_values=frozenset(truth["fraud_values"]),
        honest_values=frozenset(truth["honest_values"]),
        type_column=truth.get("type_column"),
        type_values=truth.get("type_values"),
        delay=timedelta(days=truth["delay_days"]),
        label_all=truth.get("labels", "frauds") == "all",
    )


def _zone(name: str) -> tzinfo | None:
    """The time zone, or None when the machine does not know it. UTC needs no zone data base."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _words(wanted: type | tuple[type, ...]) -> str:
    return _TYPE_WORDS[wanted if isinstance(wanted, type) else float]


_TYPE_WORDS: Final[Mapping[type, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
    dict: "a table",
}
