"""platform resume: release what is held after a configuration fault or too many deaths."""

from __future__ import annotations

import click

from fraud_daemons.cli import supervised
from fraud_daemons.cli.options import Invocation, invocation, targets_argument, timeout_option
from fraud_daemons.errors import CommandError, ExitCode


@click.command()
@targets_argument()
@click.option("--all", "everything", is_flag=True, help="Everything that is held.")
@timeout_option(90.0)
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], everything: bool, timeout_seconds: float) -> int:
    """Start again what is held; put the cause right first (platform status names it)."""
    from fraud_daemons.supervision import lifecycle

    if bool(targets) == everything:
        raise CommandError("name the packs or workers to resume, or give --all", exit_code=ExitCode.USAGE)
    result = lifecycle.resume(call.deployment(), targets, timeout_seconds=timeout_seconds, tell=call.tell)
    nothing = f"nothing is held: {', '.join(targets)}" if targets else "nothing is held"
    done = f"resumed: {', '.join(result.released)}" if result.released else nothing
    return supervised.answer(call, result, done=done)
