"""Rows of real files, one after the other: CSV (plain or .gz) and Parquet, in bounded memory.

Each row comes with its line: the physical line for CSV, the ordinal of the row (1 first) for Parquet. A row that
cannot be read as a row (too few or too many fields, bytes that are no UTF-8) still comes, with its problem, so that the
importer can account for it. A file that cannot be read as a file is a ConfigurationError.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fraud_daemons.errors import ConfigurationError

PARQUET_BATCH_ROWS: Final = 8192
KNOWN_ENDINGS: Final = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as it stands in the file. `problem` says why it is no row, else None."""

    line: int
    values: dict[str, Any]
    problem: str | None = None


class RowSource(Protocol):
    """A file of rows: its columns are known before the first row is read."""

    columns: Sequence[str]
    rows_expected: int
    """For a progress bar only: lines of a CSV file may be no rows."""

    def rows(self) -> Iterator[SourceRow]:
        """Every row of the file, in its order."""


@contextmanager
def open_source(path: Path) -> Iterator[RowSource]:
    """The rows of `path` by its ending. Raises ConfigurationError for what is missing, empty, damaged or unknown."""
    name = path.name.lower()
    if not name.endswith(KNOWN_ENDINGS):
        raise _refused(path, f"unknown type of file; known endings: {', '.join(KNOWN_ENDINGS)}")
    if not path.is_file():
        raise _refused(path, "there is no such file")
    if path.stat().st_size == 0:
        raise _refused(path, "the file is empty (0 bytes)")
    try:
        if name.endswith(".parquet"):
            with _open_parquet(path) as parquet:
                yield parquet
        else:
            with _open_text(path) as text:
                yield CsvSource(path, text, rows_expected=_count_lines(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _refused(path, f"the file is damaged or cut off ({error})") from error


class CsvSource:
    """A CSV file with a header line."""

    def __init__(self, path: Path, text: io.TextIOBase, *, rows_expected: int) -> None:
        self.rows_expected = rows_expected
        self._reader = csv.reader(text)
        try:
            self.columns: Sequence[str] = next(self._reader)
        except StopIteration:
            raise _refused(path, "the file is empty: not even a header line") from None
        except csv.Error as error:
            raise _refused(path, f"the header line cannot be read ({error})") from error
        twice = [column for column, count in Counter(self.columns).items() if count > 1]
        if twice:
            raise _refused(path, f"columns with the same name: {', '.join(twice)}")

    def rows(self) -> Iterator[SourceRow]:
        line = self._reader.line_num + 1
        while (row := self._next(line)) is not None:
            yield row
            line = self._reader.line_num + 1

    def _next(self, line: int) -> SourceRow | None:
        """The row that begins on `line`, None at the end of the file."""
        try:
            return self._row(line, next(self._reader))
        except StopIteration:
            return None
        except csv.Error as error:  # such as a quote that never closes, ended by the field limit
            return SourceRow(line, {}, f"unreadable line: {error}")

    def _row(self, line: int, values: list[str]) -> SourceRow:
        if len(values) != len(self.columns):
            problem = f"wrong number of fields: {len(values)} instead of {len(self.columns)}"
            return SourceRow(line, {"fields": [_printable(value) for value in values]}, problem)
        row = dict(zip(self.columns, values, strict=True))
        if all(value.isascii() or _is_utf8(value) for value in values):
            return SourceRow(line, row)
        return SourceRow(line, {name: _printable(value) for name, value in row.items()}, "not UTF-8")


class ParquetSource:
    """A Parquet file; values keep their types (numbers, times, texts, None)."""

    def __init__(self, path: Path, file: Any) -> None:
        self.columns: Sequence[str] = file.schema_arrow.names
        self.rows_expected: int = file.metadata.num_rows
        self._path = path
        self._file = file

    def rows(self) -> Iterator[SourceRow]:
        import pyarrow as pa

        line = 0
        try:
            for batch in self._file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for values in _microseconds(batch).to_pylist():
                    line += 1
                    yield SourceRow(line, values)
        except (pa.ArrowException, OSError) as error:
            raise _refused(self._path, f"damaged behind row {line} ({error})") from error


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOBase]:
    # utf-8-sig takes the mark that spreadsheets put first; surrogateescape carries bad bytes to the row they belong to
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        yield text


def _count_lines(path: Path) -> int:
    """Lines of a text file; reading it twice costs a few percent of the import."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


@contextmanager
def _open_parquet(path: Path) -> Iterator[ParquetSource]:
    import pyarrow as pa  # a fifth of a second and 40 MB: only an import of a Parquet file pays for it
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _refused(path, f"no readable Parquet file ({error})") from error
    with file:
        yield ParquetSource(path, file)


def _microseconds(batch: Any) -> Any:
    """The batch with nanosecond times cut to microseconds, the precision of the platform's times."""
    import pyarrow as pa

    def cut(column: Any) -> Any:
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            return column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
        return column

    return pa.RecordBatch.from_arrays([cut(column) for column in batch.columns], names=batch.schema.names)


def _is_utf8(value: str) -> bool:
    """False when undecodable bytes were carried along as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(value: str) -> str:
    """The value with undecodable bytes written as \\udcXX, so that it can be kept as evidence."""
    return value.encode("utf-8", "backslashreplace").decode()


def _refused(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError([problem], source=f"file {path.name}")
