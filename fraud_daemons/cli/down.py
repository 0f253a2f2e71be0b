"""platform down: ingress is told first, all packs drain in parallel, substrate last; 0 only when no process is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.supervision.deployment import Deployment


@click.command()
@timeout_option(60.0)
@invocation
def command(call: Invocation, *, timeout_seconds: float) -> int:
    """Drain and stop everything. Harmless when it is down."""
    from fraud_daemons.supervision import lifecycle

    result = lifecycle.down(_deployment(call), timeout_seconds=timeout_seconds, tell=call.tell)
    if not result.ok and not call.as_json:
        raise CommandError(f"still alive: {', '.join(result.survivors)}; end them by hand, then platform down again")
    document = {
        "down": result.ok,
        "elapsed_seconds": result.elapsed_seconds,
        "survivors": result.survivors,
        "killed": result.killed,
        "packs_seconds": result.packs_seconds,
    }
    killed = f"; ended what did not leave: {', '.join(result.killed)}" if result.killed else ""
    call.answer(document, text=f"down, nothing left running ({result.elapsed_seconds:.1f} s){killed}")
    return int(ExitCode.GOOD if result.ok else ExitCode.NO)


def _deployment(call: Invocation) -> Deployment:
    """Also with a pack file that is broken meanwhile: what runs must be stoppable."""
    try:
        return call.deployment()
    except ConfigurationError as error:
        profile = call.load_profile()
        call.tell(f"{error.reason}; going down without an order between packs")
        from fraud_daemons.supervision.deployment import deployment_of

        return deployment_of(profile, packs=())
