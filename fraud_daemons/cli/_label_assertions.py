"""platform labels assert: what a person or an outside source says of a flow, through the one who owns the labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from fraud_daemons.cli._case_changes import actor_of, moment_of
from fraud_daemons.cli._listing import chosen_run, reading, run_option
from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.label_assertions import SOURCES, VALUES, request, why_unknown
from fraud_daemons.domain.labels import FRAUD_DISPOSITION
from fraud_daemons.errors import CommandError, ExitCode

_ANSWER_SECONDS = 15
TEXT_CHARACTERS_MAX = 200


@click.command("assert")
@click.argument("flow_id")
@click.argument("value")
@click.option("--type", "label_type", type=click.Choice(list(VALUES)), default=FRAUD_DISPOSITION, show_default=True)
@click.option("--source", type=click.Choice(SOURCES, case_sensitive=False), default="HUMAN", show_default=True)
@click.option("--fraud-type", default=None, metavar="TEXT", help="With FRAUD: which kind.")
@click.option("--observed", default=None, metavar="TIME",
              help="When the source knew: ISO 8601 with an offset or Z; default: now. Say it to be able to repeat the command.")  # fmt: skip
@click.option("--effective", default=None, metavar="TIME", help="When it happened; default: when the flow occurred.")
@click.option("--actor", default=None, metavar="NAME", help="Who says it; default: the user's name.")
@run_option
@timeout_option(_ANSWER_SECONDS)
@invocation
def assert_command(
    call: Invocation, *, flow_id: str, value: str, label_type: str, source: str, fraud_type: str | None,
    observed: str | None, effective: str | None, actor: str | None, run: str | None, timeout_seconds: float,
) -> int:  # fmt: skip
    """Assert VALUE of FLOW_ID. The same assertion again is the same label; 1 when label_store refuses it, with its reason."""
    from fraud_daemons.acceptance.asking import Owner, ask
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import label_requests

    profile, clock = call.load_profile(), SystemClock()
    said, source = value.upper(), source.upper()
    for text, where in ((flow_id, "FLOW_ID"), (fraud_type, "--fraud-type")):
        if text is not None and (not text.strip() or len(text) > TEXT_CHARACTERS_MAX or "\0" in text):
            raise click.BadParameter(f"must be a text of 1 to {TEXT_CHARACTERS_MAX} characters", param_hint=where)
    unknown = why_unknown(label_type, said, source, fraud_type)
    if unknown is not None:
        raise click.BadParameter(unknown, param_hint="VALUE")
    with reading(profile, "labels") as tables_of:
        chosen = chosen_run(tables_of(PLATFORM_DSN), run)
    body = request(
        platform_run_id=chosen, flow_id=flow_id, label_type=label_type, value=said, fraud_type=fraud_type, source=source,
        observed_time=moment_of(observed, hint="--observed") or iso(clock.now()),
        effective_time=moment_of(effective, hint="--effective"), asked_by=actor_of(actor),
    )  # fmt: skip
    owner = Owner("label_store", "LABEL_STORE_LOCATOR", label_requests.answer_to)
    answer = ask(
        body, owner, key=flow_id, database_of=partial(operator_database, profile, "labels"), beats=profile.path("beats"),
        clock=clock, timeout_seconds=timeout_seconds,
    )  # fmt: skip
    if not answer.applied:
        raise CommandError(f"nothing was asserted of flow {flow_id}: {answer.detail}", exit_code=ExitCode.NO)
    document: dict[str, Any] = {
        "platform_run_id": chosen, "label_id": answer.label_id, "flow_id": flow_id, "type": label_type, "value": said,
        "source": source, "observed_time": body["observed_time"],
    }  # fmt: skip
    call.answer(document, text=f"flow {flow_id}: {label_type} {said} ({source}) is label {answer.label_id}")
    return int(ExitCode.GOOD)
