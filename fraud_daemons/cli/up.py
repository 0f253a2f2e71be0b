"""platform up: substrate, migrations, packs in order; harmless when already up."""

from __future__ import annotations

from typing import Any

import click

from fraud_daemons.cli import supervised
from fraud_daemons.cli.options import Invocation, invocation, targets_argument, timeout_option


@click.command()
@targets_argument()
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until every worker is ready.")
@timeout_option(90.0)
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], wait: bool, timeout_seconds: float) -> int:
    """Start the substrate, apply migrations and start the packs in order. Harmless when already up."""
    from fraud_daemons.supervision import lifecycle

    result = lifecycle.up(
        call.deployment(),
        provision=_provision,
        targets=targets,
        wait=wait,
        timeout_seconds=timeout_seconds,
        tell=call.tell,
    )
    done = "already up, everything running ready" if result.already else "everything running ready"
    return supervised.answer(call, result, done=done if wait else "started")


def _provision(profile: Any) -> object:
    from fraud_daemons import bootstrap

    return bootstrap.provision(profile)
