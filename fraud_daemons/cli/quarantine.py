"""platform quarantine: what the gate refused, why, and the bytes as they came; through the gate again after a mend."""

from __future__ import annotations

import base64
from typing import Any

import click

from fraud_daemons.cli._listing import (
    aligned,
    chosen_run,
    jsonable,
    next_page,
    note_read,
    page_options,
    reading,
    run_option,
    with_footer,
)
from fraud_daemons.cli._quarantine_redrive import redrive_command
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import IG_ADMISSION_DSN, PLATFORM_DSN
from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.domain.schemas import ReasonCode
from fraud_daemons.errors import CommandError, ExitCode


@click.group()
def command() -> None:
    """Refused events: kept whole, with their reason, and counted when they come again."""


@command.command("list")
@click.option("--reason", type=click.Choice([str(code) for code in ReasonCode]), default=None)
@click.option("--event-type", type=click.Choice(EVENT_TYPES), default=None)
@click.option("--redriven/--open", "redriven", default=None, help="Only what went through later, or only what did not.")
@click.option("--unpinned", is_flag=True, help="What named no run that exists.")
@run_option
@page_options("QUARANTINE_ID")
@invocation
def list_command(
    call: Invocation, *, reason: str | None, event_type: str | None, redriven: bool | None, unpinned: bool,
    run: str | None, limit: int, after: str | None,
) -> int:  # fmt: skip
    """A run's refused events, by their ids."""
    from fraud_daemons.state import receipts

    with reading(call.load_profile(), "quarantine") as tables_of:
        chosen = "" if unpinned else chosen_run(tables_of(PLATFORM_DSN), run)
        if after is not None and receipts.quarantine_row(tables_of(IG_ADMISSION_DSN), after) is None:
            raise _unknown(after)
        rows = receipts.quarantined(
            tables_of(IG_ADMISSION_DSN), chosen, reason=reason, event_type=event_type, redriven=redriven, after=after,
            limit=limit,
        )  # fmt: skip
    more = next_page(rows, rows[-1]["quarantine_id"] if rows else None, limit=limit)
    document = {"platform_run_id": chosen or None, "quarantined": [jsonable(row) for row in rows], "next": more}
    table = aligned(
        ("QUARANTINE", "REASON", "EVENT TYPE", "EVENT", "SEEN", "AT", "REDRIVEN", "DETAIL"),
        [
            tuple(
                row[column]
                for column in (
                    "quarantine_id", "reason", "event_type", "event_id", "seen", "quarantined_at", "redriven", "detail",
                )
            )
            for row in rows
        ],
    )  # fmt: skip
    where = chosen or "what named no run"
    call.answer(document, text=with_footer(table, more) if rows else f"nothing refused in {where}")
    return int(ExitCode.GOOD)


@command.command("show")
@click.argument("quarantine_id")
@click.option("--payload", is_flag=True, help="The original bytes too; they may hold personal data.")
@invocation
def show_command(call: Invocation, *, quarantine_id: str, payload: bool) -> int:
    """One refused event. 1 when there is none."""
    from fraud_daemons.state import receipts, redrives

    profile = call.load_profile()
    with reading(profile, "quarantine") as tables_of:
        row = receipts.quarantine_row(tables_of(IG_ADMISSION_DSN), quarantine_id)
        again = [jsonable(each) for each in redrives.of_quarantined(tables_of(IG_ADMISSION_DSN), quarantine_id)]
    if row is None:
        raise _unknown(quarantine_id)
    note_read(profile, f"quarantine {quarantine_id}", run=row["platform_run_id"] or "")
    body = bytes(row.pop("body"))
    document: dict[str, Any] = {**jsonable(row), "bytes": len(body), "redrives": again}
    if payload:
        document["payload"] = _shown(body)
    lines = [(name, value) for name, value in document.items() if name != "redrives"]
    lines += [
        ("redriven", f"{each['outcome']} {each['answered_at']} by {each['asked_by']}: {each['reason']}")
        for each in again
    ]
    text = "\n".join(f"{name:<16} {'-' if value in (None, '') else value}" for name, value in lines)
    call.answer(document, text=text)
    return int(ExitCode.GOOD)


def _unknown(quarantine_id: str) -> CommandError:
    return CommandError(f"nothing refused has the id {quarantine_id!r}; see: platform quarantine list")


def _shown(body: bytes) -> str:
    """The bytes as text where they are text, else as base64."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(body).decode()


command.add_command(redrive_command)
