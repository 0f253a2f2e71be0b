"""platform worker run NAME: one worker in the foreground - what supervisord, systemd or a container starts."""

from __future__ import annotations

import sys

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import ExitCode
from fraud_daemons.observability.heartbeat import read_heartbeat


@click.group()
def command() -> None:
    """Run one worker in the foreground."""


@command.command("run")
@click.argument("name")
@invocation
def run(call: Invocation, *, name: str) -> int:
    """Run worker NAME until SIGTERM. Exit codes: 0 stopped, 70 bug, 78 configuration."""
    from fraud_daemons import bootstrap

    profile = call.load_profile()
    if sys.stderr.isatty():
        call.tell(f"{name}: log {profile.path('logs', f'{name}.log')}; Ctrl-C drains and stops it")
    code = bootstrap.run_worker(profile, name, tell=_say)
    if code != ExitCode.GOOD:
        beat = read_heartbeat(profile.path("beats", f"{name}.json"))
        _say(f"{name} leaves with {code}: {beat.reason if beat and beat.reason else 'see its log'}")
    return code


def _say(text: str) -> None:
    """To stderr also under a supervisor, which keeps it as the worker's last words."""
    click.echo(text, err=True)
