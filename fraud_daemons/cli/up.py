"""platform up: substrate, migrations, packs in order; harmless when already up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from fraud_daemons.cli import supervised
from fraud_daemons.cli.options import Invocation, invocation, targets_argument, timeout_option
from fraud_daemons.config.connection_budget import connection_budget
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import ConfigurationError, FatalFault

if TYPE_CHECKING:
    from fraud_daemons.supervision.deployment import Deployment


@click.command()
@targets_argument()
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until every worker is ready.")
@timeout_option(90.0)
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], wait: bool, timeout_seconds: float) -> int:
    """Start the substrate, apply migrations and start the packs in order. Harmless when already up."""
    from fraud_daemons.supervision import lifecycle

    deployment = call.deployment()
    result = lifecycle.up(
        deployment,
        provision=_provision,
        outside=_brought(deployment),
        targets=targets,
        wait=wait,
        timeout_seconds=timeout_seconds,
        tell=call.tell,
    )
    done = "already up, everything running ready" if result.already else "everything running ready"
    return supervised.answer(call, result, done=done if wait else "started")


def _provision(profile: Profile) -> object:
    from fraud_daemons import bootstrap

    try:
        return bootstrap.provision(profile)
    except ConfigurationError:
        raise
    except FatalFault as fault:  # no waiting can help: an answer about the configuration, not about readiness
        advice = "; with a user who may not create roles: database.roles = given" if "42501" in str(fault) else ""
        raise ConfigurationError([f"{fault}; no pack was started{advice}"], source="database") from fault


def _brought(deployment: Deployment) -> Mapping[str, Callable[[], str | None]]:
    """Who is to be asked before the start; what a server of our own would have no room for is refused here already."""
    profile = deployment.profile
    budget = connection_budget(profile, workers=len(deployment.workers()))
    if profile.embedded_postgres:
        if problem := budget.problem(profile.get("database.connections_max"), "database.connections_max"):
            raise ConfigurationError([problem], source=f"profile {profile.name}")
        if profile.embedded_objectstore and not profile.dsns:
            return {}  # nobody to ask, and no driver to load
    from fraud_daemons.cli import _outside

    return _outside.outside(profile, budget)
