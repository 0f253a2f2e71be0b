"""platform cases: the queue of cases, and one case with its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fraud_daemons.cli._case_changes import assign_command, note_command, resolve_command
from fraud_daemons.cli._listing import (
    aligned,
    chosen_run,
    jsonable,
    next_page,
    page_options,
    reading,
    run_option,
    with_footer,
)
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.cases import Disposition
from fraud_daemons.errors import CommandError, ExitCode


@click.group()
def command() -> None:
    """The queue of cases: one open case per card (or flow, where the card is unknown)."""


@command.command("list")
@click.option("--status", type=click.Choice(["OPEN", "RESOLVED"], case_sensitive=False), default=None)
@click.option("--disposition", type=click.Choice([str(d) for d in Disposition], case_sensitive=False), default=None)
@click.option("--assignee", default=None, metavar="NAME", help="Only what this person has.")
@click.option("--unassigned", is_flag=True, help="Only what nobody has.")
@click.option("--subject", default=None, metavar="CARD|FLOW", help="Only the cases of this card or flow.")
@run_option
@page_options("CASE_ID")
@invocation
def list_command(
    call: Invocation, *, status: str | None, disposition: str | None, assignee: str | None, unassigned: bool,
    subject: str | None, run: str | None, limit: int, after: str | None,
) -> int:  # fmt: skip
    """A run's cases, oldest first."""
    from fraud_daemons.state import cases

    if unassigned and assignee is not None:
        raise click.UsageError("--assignee and --unassigned exclude one another")
    only = {
        "status": status and status.upper(),
        "disposition": disposition and disposition.upper(),
        "assignee": "" if unassigned else assignee,
        "subject": subject,
    }
    with reading(call.load_profile(), "cases") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("CASE_MGMT_LOCATOR")
        if after is not None and cases.case_of(connection, chosen, after) is None:
            raise _unknown(after, chosen)
        rows = cases.list_cases(connection, chosen, only=only, after=after, limit=limit)
    more = next_page(rows, rows[-1]["case_id"] if rows else None, limit=limit)
    document = {"platform_run_id": chosen, "cases": [jsonable(row) for row in rows], "next": more}
    table = aligned(
        ("CASE", "STATUS", "SUBJECT", "TRIGGERS", "OPENED", "ASSIGNEE", "DISPOSITION"),
        [
            (
                row["case_id"],
                row["status"],
                f"{row['subject_kind']} {row['subject']}",
                row["triggers"],
                row["opened_at"],
                row["assignee"],
                row["disposition"],
            )
            for row in rows
        ],
    )
    call.answer(document, text=with_footer(table, more) if rows else f"no cases in {chosen}")
    return int(ExitCode.GOOD)


@command.command("show")
@click.argument("case_id")
@run_option
@page_options("ENTRY", default=200)
@invocation
def show_command(call: Invocation, *, case_id: str, run: str | None, limit: int, after: str | None) -> int:
    """One case and its timeline; --after is an entry number. 1 when the run has no such case."""
    from fraud_daemons.state import cases

    behind = _entry_number(after)
    with reading(call.load_profile(), "cases") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("CASE_MGMT_LOCATOR")
        case = cases.case_of(connection, chosen, case_id)
        if case is None:
            raise _unknown(case_id, chosen)
        entries = cases.timeline_of(connection, chosen, case_id, after=behind, limit=limit)
    more = next_page(entries, str(entries[-1]["entry"]) if entries else None, limit=limit)
    timeline = [{**entry["body"], "recorded_at": entry["recorded_at"]} for entry in map(jsonable, entries)]
    document = {"platform_run_id": chosen, "case": jsonable(case), "timeline": timeline, "next": more}
    call.answer(document, text=with_footer(_text(jsonable(case), timeline), more))
    return int(ExitCode.GOOD)


def _entry_number(after: str | None) -> int:
    if after is None:
        return 0
    if not after.isdecimal():
        raise click.BadParameter(f"{after!r} is no entry number", param_hint="--after")
    return int(after)


def _unknown(case_id: str, run: str) -> CommandError:
    return CommandError(f"no case {case_id!r} in run {run}; see: platform cases list --run {run}")


def _text(case: Mapping[str, Any], timeline: list[dict[str, Any]]) -> str:
    head = (
        f"case      {case['case_id']}  {case['status']}{'  ' + case['disposition'] if case['disposition'] else ''}\n"
        f"subject   {case['subject_kind']} {case['subject']}, its case {case['ordinal']}\n"
        f"opened    {case['opened_at']}\nchanged   {case['changed_at']}  version {case['version']}\n"
        f"assignee  {case['assignee'] or '-'}\ntriggers  {case['triggers']}\n\n"
    )
    rows = [
        (
            entry["entry"],
            entry["kind"],
            entry["recorded_at"],
            entry.get("actor") or entry.get("trigger_kind"),
            entry.get("flow_id"),
            entry.get("reason") or entry.get("text") or entry.get("disposition") or entry.get("assignee"),
        )
        for entry in timeline
    ]
    return head + aligned(("ENTRY", "KIND", "RECORDED", "BY", "FLOW", "WHAT"), rows)


for _each in (assign_command, note_command, resolve_command):
    command.add_command(_each)
