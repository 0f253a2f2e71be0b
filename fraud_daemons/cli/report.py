"""platform report: the run report, made by the run_reporter from ids in different stores, kept as evidence."""

from __future__ import annotations

from pathlib import Path

import click

from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.dsns import EVENT_BUS_DSN
from fraud_daemons.errors import CommandError, ExitCode


@click.command()
@click.option("--run", "run", default=None, metavar="RUN", help="Run id; default: the current run.")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE",
              help="Keep the report as a page, too.")  # fmt: skip
@timeout_option(120)
@invocation
def command(call: Invocation, *, run: str | None, page: Path | None, timeout_seconds: float) -> int:
    """Every record accounted for, by ids. 0 = PASS, 1 = something is missing or surplus, 4 = nobody answered."""
    from fraud_daemons.acceptance.reporting import render_report, request_report, wait_for_report
    from fraud_daemons.bootstrap import evidence_store, operator_database
    from fraud_daemons.state import retiring, runs

    profile = call.load_profile()
    database = operator_database(profile, "report")
    with database.scope() as connection:
        found = runs.find(connection, run) if run else runs.current(connection)
    if found is None:
        what = f"there is no run {run!r}" if run else "there is no run yet"
        raise CommandError(f"report: {what}; see: platform run list, platform run new", exit_code=ExitCode.NO)
    chosen = found.platform_run_id
    with database.scope() as connection:
        gone = retiring.retired(connection).get(chosen)
    if gone:
        message = (
            f"report: {chosen} was retired at {iso(gone[0])}: its state was given up after its last report, {gone[1]}"
        )
        raise CommandError(f"{message}; its records are in the archive", exit_code=ExitCode.NO)
    clock = SystemClock()
    request_id = request_report(
        operator_database(profile, "report", EVENT_BUS_DSN), platform_run_id=chosen, clock=clock
    )
    document = wait_for_report(
        database,
        platform_run_id=chosen,
        request_id=request_id,
        beats=profile.path("beats"),
        clock=clock,
        timeout_seconds=timeout_seconds,
    )
    if page is not None:
        page.write_bytes(evidence_store(profile).get(document["evidence"]["page_key"]))
        call.tell(f"the page is at {page}")
    call.answer(document, text=render_report(document))
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)
