"""What the commands that list state have alike: --run, --limit, --after, and aligned lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.clock import iso
from fraud_daemons.errors import CommandError
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.state import runs

if TYPE_CHECKING:
    from fraud_daemons.config.profiles import Profile

PAGE_MAX = 10_000
PAGE_DEFAULT = 50

run_option = click.option("--run", "run", default=None, metavar="RUN", help="Run id; default: the current run.")


def reading(profile: Profile, command: str) -> AbstractContextManager[ConnectionOf]:
    """Connections by DSN name for a command that reads: what it asks for may stand on several servers."""
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.runtime.database import connections

    return connections(partial(operator_database, profile, command))


def note_read(profile: Profile, subject: str, *, run: str) -> None:
    """Write down who reads which evidence, before it is shown: what cannot be written down is not shown."""
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.clock import SystemClock
    from fraud_daemons.state import governance
    from fraud_daemons.supervision.waiting import operator_name

    with operator_database(profile, "governance").scope() as connection:
        governance.record(
            connection, governance.Kind.EVIDENCE_READ, subject=subject, by=operator_name(), at=SystemClock().now(),
            platform_run_id=run,
        )  # fmt: skip


def page_options(after: str, *, default: int = PAGE_DEFAULT) -> Callable[..., Any]:
    """--limit and --after; `after` says what a page continues behind."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option("--after", default=None, metavar=after, help=f"Continue behind this {after.lower()}.")(
            function
        )
        return click.option(
            "--limit", type=click.IntRange(1, PAGE_MAX), default=default, show_default=True, help="Lines at most."
        )(function)

    return decorate


def chosen_run(connection: Connection, run: str | None) -> str:
    """The run asked for, else the newest; `connection` = to PLATFORM_DSN. Raises CommandError when there is none."""
    if run is None:
        current = runs.current(connection)
        if current is None:
            raise CommandError("there is no run yet; begin one with: platform run new")
        return current.platform_run_id
    if runs.find(connection, run) is None:
        raise CommandError(f"there is no run {run!r}; see: platform run list")
    return run


def jsonable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times as ISO text."""
    return {key: iso(value) if isinstance(value, datetime) else value for key, value in row.items()}


def next_page(rows: Sequence[Any], last: str | None, *, limit: int) -> str | None:
    """What to give --after for the next page, None when this one was the last."""
    return last if len(rows) == limit else None


def aligned(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns in line, header first; empty fields as a dash."""
    table = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines)


def with_footer(text: str, after: str | None) -> str:
    """The text, and how to go on when there is more."""
    return text if after is None else f"{text}\n\nmore: --after {after}"


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return iso(value) if isinstance(value, datetime) else str(value)
