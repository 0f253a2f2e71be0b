"""platform run: begin a run, list past ones. A run is one execution; only this command begins one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli._listing import next_page, page_options, with_footer
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.state.runs import Run

LISTED_DEFAULT = 20


@click.group()
def run() -> None:
    """One execution of the platform: it scopes every key, every piece of evidence and what counts as a repeat."""


command = run


@run.command("new")
@click.option("--live", is_flag=True, help="External executors (webhooks) may fire on this run.")
@click.option("--note", default="", metavar="TEXT", help="A word on what this run is for.")
@invocation
def new_command(call: Invocation, *, live: bool, note: str) -> int:
    """Begin a run and print its id. Two in one second collide, loudly."""
    from fraud_daemons.acceptance import streaming

    begun = streaming.new_run(call.load_profile(), live=live, note=note)
    call.answer(_document(begun), text=begun.platform_run_id)
    return int(ExitCode.GOOD)


@run.command("list")
@click.option("--live/--replay", "live", default=None, help="Only runs of this kind.")
@page_options("RUN", default=LISTED_DEFAULT)
@invocation
def list_command(call: Invocation, *, live: bool | None, limit: int, after: str | None) -> int:
    """The newest runs, newest first."""
    from fraud_daemons import bootstrap
    from fraud_daemons.state import runs

    with bootstrap.operator_database(call.load_profile(), "run").scope() as connection:
        if after is not None and runs.find(connection, after) is None:
            raise CommandError(f"there is no run {after!r}; see: platform run list")
        found = runs.newest(connection, limit=limit, live=live, after=after)
    more = next_page(found, found[-1].platform_run_id if found else None, limit=limit)
    none = "no run yet; begin one with: platform run new" if live is None and after is None else "no such runs"
    call.answer(
        {"runs": [_document(each) for each in found], "next": more},
        text=with_footer("\n".join(map(_line, found)), more) if found else none,
    )
    return int(ExitCode.GOOD)


@run.command("show")
@click.argument("platform_run_id", required=False)
@invocation
def show_command(call: Invocation, *, platform_run_id: str | None) -> int:
    """One run; by default the current one."""
    from fraud_daemons import bootstrap
    from fraud_daemons.state import runs

    with bootstrap.operator_database(call.load_profile(), "run").scope() as connection:
        found = runs.find(connection, platform_run_id) if platform_run_id else runs.current(connection)
    if found is None:
        raise CommandError(
            f"there is no run {platform_run_id}; see: platform run list"
            if platform_run_id
            else "no run yet; begin one with: platform run new"
        )
    call.answer(_document(found), text=_line(found))
    return int(ExitCode.GOOD)


def _document(found: Run) -> dict[str, Any]:
    from fraud_daemons.clock import iso

    return {
        "platform_run_id": found.platform_run_id,
        "started_at": iso(found.started_at),
        "live": found.live,
        "note": found.note,
    }


def _line(found: Run) -> str:
    return f"{found.platform_run_id}  {'live' if found.live else 'replay':<6}  {found.note}".rstrip()
