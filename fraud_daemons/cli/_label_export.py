"""platform labels export: what a model may learn from, as it was known at a time."""

from __future__ import annotations

from pathlib import Path

import click

from fraud_daemons.cli._case_changes import moment_of
from fraud_daemons.cli._listing import chosen_run, reading, run_option
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock, iso, parse_iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.labels import FRAUD_DISPOSITION, LABEL_TYPES
from fraud_daemons.errors import CommandError, ExitCode

HORIZON_DAYS = 30


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--as-of", "as_of_text", default=None, metavar="TIME", help="ISO 8601 with an offset or Z; default: now.")
@click.option("--type", "label_type", type=click.Choice(LABEL_TYPES), default=FRAUD_DISPOSITION, show_default=True)
@click.option("--horizon-days", type=click.IntRange(0, 3650), default=HORIZON_DAYS, show_default=True,
              help="After so many days without a label a flow is MATURE_UNLABELLED, before IMMATURE.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace FILE when it is there, once the new one is whole.")
@run_option
@invocation
def export_command(
    call: Invocation, *, file: Path, as_of_text: str | None, label_type: str, horizon_days: int, overwrite: bool,
    run: str | None,
) -> int:  # fmt: skip
    """Write FILE (.parquet or .csv): each flow decided by then, its features as decided on, its label as known then.

    Written whole or not at all."""
    from fraud_daemons.acceptance.training_slice import ENDINGS, slice_of, write

    if file.suffix not in ENDINGS:
        raise click.BadParameter(f"{file.name!r} must end in {' or '.join(ENDINGS)}", param_hint="FILE")
    if file.exists() and not overwrite:
        raise CommandError(f"{file} is there already; give another name, or --overwrite")
    moment = moment_of(as_of_text, hint="--as-of") or iso(SystemClock().now())
    with reading(call.load_profile(), "labels") as tables_of:
        chosen = chosen_run(tables_of(PLATFORM_DSN), run)
        pages = slice_of(
            tables_of, chosen, as_of_time=parse_iso(moment), label_type=label_type, horizon_days=horizon_days
        )
        rows, labelled = write(pages, file)
    document = {
        "platform_run_id": chosen, "file": str(file), "as_of": moment, "type": label_type, "horizon_days": horizon_days,
        "rows": rows, "labelled": labelled,
    }  # fmt: skip
    call.answer(document, text=f"{file}: {rows} flows as of {moment}, {labelled} with a label")
    return int(ExitCode.GOOD)
