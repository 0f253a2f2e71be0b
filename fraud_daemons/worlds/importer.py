"""Real files become worlds: every row of the file ends as a transaction, as a reject with its reason, or outside the
part that was asked for - and the sum is checked.

Rows are normalised to a few hundred bytes each and sorted in memory (300,000 rows: 270 MB at the peak); a file beyond
TRANSACTIONS_MAX is refused and can be imported by date range. Rejects keep their raw row, card numbers masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.clock import iso, parse_iso
from fraud_daemons.domain.card_numbers import looks_like_pan
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.mapping import ColumnMapping
from fraud_daemons.worlds.normaliser import EVERYTHING, Normaliser, RowReject, Selection, Staged, as_text
from fraud_daemons.worlds.progress import PROGRESS_EVERY_ROWS, Progress, reported, unseen
from fraud_daemons.worlds.sealed import REJECTS_FILE, World, file_sha256
from fraud_daemons.worlds.sealing import TRANSACTIONS_MAX, Provenance, name_problems, seal, sealing_folder
from fraud_daemons.worlds.sources import SourceRow, open_source
from fraud_daemons.worlds.transaction import Transaction, Truth

REASON_EXAMPLES: Final = 3


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


def import_world(
    file: Path,
    *,
    mapping: ColumnMapping,
    worlds_dir: Path,
    name: str,
    selection: Selection = EVERYTHING,
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
