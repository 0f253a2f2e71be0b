"""platform trace: one event's whole way. The file is not called `trace`: that is the standard library's name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from fraud_daemons.cli._listing import aligned, chosen_run, run_option
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import CommandError, ExitCode


@click.command()
@click.argument("identity", metavar="EVENT_ID|FLOW_ID|DECISION_ID")
@run_option
@invocation
def command(call: Invocation, *, identity: str, run: str | None) -> int:
    """Was it admitted, who took it on, is the evidence there? 1 when nobody in the run has met this id."""
    from fraud_daemons.acceptance.archive import archived_from
    from fraud_daemons.acceptance.tracing import trace
    from fraud_daemons.bootstrap import evidence_store, operator_database
    from fraud_daemons.runtime.database import connections

    profile = call.load_profile()
    with connections(partial(operator_database, profile, "trace")) as at:
        chosen = chosen_run(at(PLATFORM_DSN), run)
        document = trace(at, chosen, identity, archived=archived_from(at, partial(evidence_store, profile)))
    if document is None:
        raise CommandError(
            f"no event, flow or decision {identity!r} in run {chosen}; another run: --run (platform run list)"
        )
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD)


def _text(document: Mapping[str, Any]) -> str:
    head = (
        f"flow {document['flow_id'] or '-'}  decision {document['decision_id'] or '-'}  {document['platform_run_id']}"
    )
    rows = [(stage["stage"], _when(stage), stage["note"]) for stage in document["stages"]]
    parts = [head, aligned(("STAGE", "AT", "WHAT"), rows)]
    events = document["stages"][0]["events"]
    if events:
        columns = ("event_type", "event_id", "admitted_at", "receipt_object")
        table = [[event[name] for name in columns] + [_place(event)] for event in events]
        parts.append(aligned(("EVENT", "ID", "ADMITTED", "RECEIPT IN", "POSITION"), table))
    for kind in ("dead_letters", "quarantined"):
        parts += [
            f"{kind.replace('_', ' ')}: {row['event_id']}  {row['reason']}  {row['detail']}" for row in document[kind]
        ]
    return "\n\n".join(parts)


def _when(stage: Mapping[str, Any]) -> str:
    return stage["at"] or ("time not known" if stage["reached"] else "not reached")


def _place(event: Mapping[str, Any]) -> str:
    return f"{event['topic']}/{event['partition']}/{event['position']}"
