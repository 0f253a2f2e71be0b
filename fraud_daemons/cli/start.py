"""platform start: start packs or workers that an operator stopped."""

from __future__ import annotations

import click

from fraud_daemons.cli import supervised
from fraud_daemons.cli.options import Invocation, invocation, targets_argument, timeout_option


@click.command()
@targets_argument()
@timeout_option(90.0)
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], timeout_seconds: float) -> int:
    """Start packs, workers or services of the substrate (none named: all packs) and wait until they are ready."""
    from fraud_daemons.supervision import lifecycle

    result = lifecycle.start(call.deployment(), targets, timeout_seconds=timeout_seconds, tell=call.tell)
    return supervised.answer(call, result, done=f"running ready: {', '.join(targets) or 'everything'}")
