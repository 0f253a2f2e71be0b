"""platform stop: drain and stop packs or workers; they stay stopped until start or up."""

from __future__ import annotations

import click

from fraud_daemons.cli import supervised
from fraud_daemons.cli.options import Invocation, invocation, targets_argument, timeout_option


@click.command()
@targets_argument()
@timeout_option(60.0)
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], timeout_seconds: float) -> int:
    """Drain and stop packs, workers or services of the substrate (none named: all packs; the substrate stays up)."""
    from fraud_daemons.supervision import lifecycle

    result = lifecycle.stop(call.deployment(), targets, timeout_seconds=timeout_seconds, tell=call.tell)
    return supervised.answer(call, result, done=f"stopped: {', '.join(targets) or 'all packs'}")
