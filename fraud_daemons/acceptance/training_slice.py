"""A point-in-time training slice: every flow decided by then, its features as they were decided on, and the label that
was known at that time - not one observed a moment later. Written whole or not at all: into a file beside it that takes
its name when every byte is on the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fraud_daemons.clock import iso
from fraud_daemons.domain.features import FEATURE_NAMES
from fraud_daemons.domain.labels import as_of, maturity
from fraud_daemons.errors import CommandError
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.state.label_slices import assertions_of_flows, decided

ENDINGS: Final = (".parquet", ".csv")
_TIME, _TEXT = pa.timestamp("us", tz="UTC"), pa.string()
SCHEMA: Final = pa.schema(
    [
        ("platform_run_id", _TEXT),
        ("flow_id", _TEXT),
        ("decision_id", _TEXT),
        ("occurred_at", _TIME),
        ("source_seq", pa.int64()),
        ("card_token", _TEXT),
        ("terminal_id", _TEXT),
        ("merchant_id", _TEXT),
        ("currency", _TEXT),
        ("outcome", _TEXT),
        ("score", pa.int64()),
        ("feature_status", _TEXT),
        ("snapshot_hash", _TEXT),
        *((name, pa.float64()) for name in FEATURE_NAMES),
        ("as_of", _TIME),
        ("maturity", _TEXT),
        ("label_value", _TEXT),
        ("label_fraud_type", _TEXT),
        ("label_source", _TEXT),
        ("label_id", _TEXT),
        ("label_effective_time", _TIME),
        ("label_observed_time", _TIME),
    ]
)
Rows = list[dict[str, Any]]


def slice_of(at: ConnectionOf, run: str, *, as_of_time: datetime, label_type: str, horizon_days: int) -> Iterator[Rows]:
    """Pages of the slice, in the world's order."""
    for page in decided(at("DF_REPLAY_DSN"), run, at=as_of_time):
        flows = [row["flow_id"] for row in page]
        known = assertions_of_flows(at("LABEL_STORE_LOCATOR"), run, flows, at=as_of_time)
        yield [
            _row(
                decision, known.get(decision["flow_id"], ()), run=run, as_of_time=as_of_time, label_type=label_type,
                horizon_days=horizon_days,
            )
            for decision in page
        ]  # fmt: skip


def _row(
    decision: dict[str, Any], known: Sequence[dict[str, Any]], *, run: str, as_of_time: datetime, label_type: str,
    horizon_days: int,
) -> dict[str, Any]:  # fmt: skip
    body = orjson.loads(decision["body"])
    label = as_of(known, as_of_time, label_type=label_type)
    said = maturity(label, occurred_at=body["occurred_at"], at=iso(as_of_time), horizon_days=horizon_days)
    of_label = {
        f"label_{name}": None if label is None else label[name]
        for name in ("value", "fraud_type", "source", "effective_time", "observed_time")
    }
    return {
        **dict.fromkeys(FEATURE_NAMES),
        **(body["features"] or {}),
        **{
            name: decision[name] for name in ("flow_id", "decision_id", "occurred_at", "source_seq", "outcome", "score")
        },
        **{name: decision[name] for name in ("feature_status", "snapshot_hash")},
        **{name: body[name] for name in ("card_token", "terminal_id", "merchant_id")},
        "amount_minor": body["traffic"]["amount_minor"],
        "currency": body["traffic"]["currency"],
        "platform_run_id": run,
        "as_of": as_of_time,
        "maturity": str(said),
        **of_label,
        "label_id": None if label is None else label["label_id"],
    }


def write(pages: Iterator[Rows], file: Path) -> tuple[int, int]:
    """Write a slice; (rows, rows with a label). Raises CommandError when the disk does not take it: nothing is left."""
    rows = labelled = 0
    with _whole(file) as out, _writer(file, out) as writer:
        for page in pages:
            writer.write_table(pa.Table.from_pylist(page, schema=SCHEMA))
            rows += len(page)
            labelled += sum(row["label_id"] is not None for row in page)
    return rows, labelled


@contextmanager
def _writer(file: Path, out: IO[bytes]) -> Iterator[Any]:
    """By the file's ending. An empty slice is a file with its columns too."""
    if file.suffix == ".parquet":
        with pyarrow.parquet.ParquetWriter(out, SCHEMA) as parquet:
            yield parquet
    else:
        with pyarrow.csv.CSVWriter(out, SCHEMA) as csv:
            yield csv


@contextmanager
def _whole(file: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is complete and on the disk; whatever happens before leaves nothing."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise CommandError(
            f"{file}: {error.strerror or error}; nothing was exported, no file was left or changed"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
