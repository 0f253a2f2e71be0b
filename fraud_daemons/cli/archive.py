"""platform archive: every topic as objects, and whether they are all there."""

from __future__ import annotations

from typing import Any

import click

from fraud_daemons.cli._listing import chosen_run, note_read, reading, run_option
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import ExitCode


@click.group()
def command() -> None:
    """The archive: every record of every topic, as gzip NDJSON objects."""


@command.command("verify")
@run_option
@invocation
def verify_command(call: Invocation, *, run: str | None) -> int:
    """Compare ledger and objects of a run, both ways and byte for byte. 0 = all as promised, 1 = deviations, named."""
    from fraud_daemons.acceptance.archive import FAMILY, verify
    from fraud_daemons.bootstrap import evidence_store
    from fraud_daemons.state import segments

    profile = call.load_profile()
    with reading(profile, "archive") as tables_of:
        chosen = chosen_run(tables_of(PLATFORM_DSN), run)
        ledger = segments.of_run(tables_of("ARCHIVE_WRITER_LEDGER_DSN"), "archive", FAMILY, chosen)
    note_read(profile, "archive", run=chosen)
    document = verify(ledger, evidence_store(profile), run=chosen)
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)


def _text(document: dict[str, Any]) -> str:
    head = (
        f"{document['platform_run_id']}  {document['records']} records in {document['segments']} segments,"
        f" {document['objects']} objects, {document['waiting']} still to be put"
    )
    lines = [head]
    lines += [f"  {deviation['object']}: {deviation['what']}" for deviation in document["examples"]]
    if not document["segments"]:
        lines.append("  nothing of this run is in the ledger: does archive_writer run? see: platform status -v")
    counted = f"{document['deviations']} deviations" if document["deviations"] else "ledger and objects agree"
    return "\n".join([*lines, f"verdict  {document['verdict']}: {counted}"])
