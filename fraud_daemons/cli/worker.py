"""platform worker run NAME: one worker in the foreground - what supervisord, systemd or a container starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock
from fraud_daemons.errors import ExitCode, TransientFault
from fraud_daemons.observability.heartbeat import read_heartbeat

if TYPE_CHECKING:
    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.supervision.deployment import Deployment


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
    code = bootstrap.run_worker(profile, name, look_at_platform=_looker(profile), tell=_say)
    if code != ExitCode.GOOD:
        beat = read_heartbeat(profile.path("beats", f"{name}.json"))
        _say(f"{name} leaves with {code}: {beat.reason if beat and beat.reason else 'see its log'}")
    return code


def _looker(profile: Profile) -> Callable[[], dict[str, Any]]:
    """What `platform status --json` says; its parts are imported when somebody looks, which most workers never do."""

    @cache
    def deployment() -> Deployment:
        from fraud_daemons.supervision.deployment import deployment_of

        return deployment_of(profile)

    def look() -> dict[str, Any]:
        from fraud_daemons.supervision import overview, watcher

        picture, _ = overview.look(deployment(), clock=SystemClock())
        supervisor = picture.supervisor
        if supervisor is not None and supervisor.status in (watcher.FROZEN, watcher.SILENT):
            raise TransientFault(supervisor.reason or supervisor.status, reason=f"supervisor: {supervisor.status}")
        return picture.to_json()

    return look


def _say(text: str) -> None:
    """To stderr also under a supervisor, which keeps it as the worker's last words."""
    click.echo(text, err=True)
