"""platform worker run NAME: one worker in the foreground - what supervisord, systemd or a container starts."""

from __future__ import annotations

import click

from fraud_daemons.cli.options import Invocation, invocation


@click.group()
def command() -> None:
    """Run one worker in the foreground."""


@command.command("run")
@click.argument("name")
@invocation
def run(call: Invocation, *, name: str) -> int:
    """Run worker NAME until SIGTERM. Exit codes: 0 stopped, 70 bug, 78 configuration."""
    from fraud_daemons import bootstrap

    return int(bootstrap.run_worker(call.load_profile(), name))
