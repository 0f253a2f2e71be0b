"""platform labels: what was known about a flow at a time, what became known when; assert, export."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from fraud_daemons.cli._label_assertions import assert_command
from fraud_daemons.cli._label_export import export_command
from fraud_daemons.cli._listing import aligned, chosen_run, next_page, page_options, reading, run_option, with_footer
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock, iso, parse_iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.labels import FRAUD_DISPOSITION, LABEL_TYPES, PRECEDENCE
from fraud_daemons.errors import CommandError, ExitCode

SOURCES = tuple(PRECEDENCE)
_HEADER = ("OBSERVED", "FLOW", "TYPE", "VALUE", "FRAUD TYPE", "SOURCE", "EFFECTIVE", "LABEL", "SUPERSEDES")
_COLUMNS = (
    "observed_time",
    "flow_id",
    "type",
    "value",
    "fraud_type",
    "source",
    "effective_time",
    "label_id",
    "supersedes",
)


@click.group()
def command() -> None:
    """Labels: assertions of what a flow was, each with the time from which it was known."""


@command.command("as-of")
@click.argument("flow_id")
@click.option("--at", "at", default=None, metavar="TIME", help="ISO 8601 with an offset or Z; default: now.")
@click.option("--type", "label_type", type=click.Choice(LABEL_TYPES), default=FRAUD_DISPOSITION, show_default=True)
@run_option
@invocation
def as_of_command(call: Invocation, *, flow_id: str, at: str | None, label_type: str, run: str | None) -> int:
    """The label that held for FLOW_ID at a time, with all that was known then. No label is an answer, not an error."""
    from fraud_daemons.domain.labels import as_of
    from fraud_daemons.state import labels, traces

    moment = iso(_time(at) or SystemClock().now())
    with reading(call.load_profile(), "labels") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("LABEL_STORE_LOCATOR")
        assertions = labels.assertions_of(connection, chosen, flow_id)
        if not assertions and traces.flow_of(tables_of, chosen, flow_id) != flow_id:
            raise CommandError(f"no flow {flow_id!r} in run {chosen}; see: platform decisions list --run {chosen}")
    known = [assertion for assertion in assertions if assertion["observed_time"] <= moment]
    label = as_of(known, moment, label_type=label_type)
    document = {
        "platform_run_id": chosen,
        "flow_id": flow_id,
        "type": label_type,
        "at": moment,
        "label": None if label is None else dict(label),
        "known": known,
    }
    call.answer(document, text=_as_of_text(document))
    return int(ExitCode.GOOD)


@command.command("list")
@click.option("--at", "at", default=None, metavar="TIME", help="Only what was known at this time.")
@click.option("--type", "label_type", type=click.Choice(LABEL_TYPES), default=None, help="Only this type.")
@click.option("--value", default=None, help="Only this value.")
@click.option("--source", type=click.Choice(SOURCES, case_sensitive=False), default=None, help="Only from this source.")
@click.option("--flow", default=None, metavar="FLOW_ID", help="Only about this flow.")
@run_option
@page_options("LABEL_ID")
@invocation
def list_command(
    call: Invocation, *, at: str | None, run: str | None, limit: int, after: str | None, **only: str | None
) -> int:
    """A run's assertions in the order in which they became known, superseded ones too."""
    from fraud_daemons.state import labels

    moment = _time(at)
    with reading(call.load_profile(), "labels") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("LABEL_STORE_LOCATOR")
        if after is not None and not labels.exists(connection, chosen, after):
            raise CommandError(f"no label {after!r} in run {chosen}; see: platform labels list --run {chosen}")
        only |= {name: text.upper() for name in ("value", "source") if (text := only[name]) is not None}
        rows = labels.list_assertions(connection, chosen, at=moment, after=after, limit=limit, only=only)
    more = next_page(rows, rows[-1]["label_id"] if rows else None, limit=limit)
    document = {"platform_run_id": chosen, "at": moment and iso(moment), "only": only, "labels": rows, "next": more}
    call.answer(document, text=with_footer(_table(rows), more) if rows else f"no labels in {chosen}")
    return int(ExitCode.GOOD)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_iso(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, e.g. 2018-07-18T12:00:00Z", param_hint="--at") from error


def _table(rows: list[dict[str, Any]]) -> str:
    return aligned(_HEADER, [[row[column] for column in _COLUMNS] for row in rows])


def _as_of_text(document: dict[str, Any]) -> str:
    label = document["label"]
    said = "no label was known" if label is None else f"{label['value']} ({label['source']}, {label['observed_time']})"
    head = f"flow {document['flow_id']} as of {document['at']}: {said}"
    return f"{head}\n\n{_table(document['known'])}" if document["known"] else head


for _each in (assert_command, export_command):
    command.add_command(_each)
