"""platform restart: drain, stop, start, wait until ready; nothing lost or repeated."""

from __future__ import annotations

import click

from fraud_daemons.cli import supervised
from fraud_daemons.cli.options import Invocation, invocation, targets_argument, timeout_option


@click.command()
@targets_argument()
@click.option("--rolling", is_flag=True, help="One worker after the other, each ready before the next.")
@timeout_option(120.0)
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], rolling: bool, timeout_seconds: float) -> int:
    """Restart packs, workers or services (none named: all packs). Other workers keep running."""
    from fraud_daemons.supervision import lifecycle

    result = lifecycle.restart(
        call.deployment(), targets, rolling=rolling, timeout_seconds=timeout_seconds, tell=call.tell
    )
    return supervised.answer(call, result, done=f"restarted, running ready: {', '.join(targets) or 'all packs'}")
