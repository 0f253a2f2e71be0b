"""The embedded services of a deployment: prepared before supervisord starts, asked whether they really serve, settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from fraud_daemons.config.ports import (
    SETTING_OF,
    choose_ports,
    chosen_port,
    fixed_port,
    is_free,
    port_holder,
    read_ports,
    release_ports,
)
from fraud_daemons.config.profiles import Profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.supervision.credentials import store_credentials
from fraud_daemons.supervision.deployment import OBJECTSTORE, POSTGRES, Deployment
from fraud_daemons.supervision.substrate import objectstore, postgres


def prepare(
    deployment: Deployment, secrets: Mapping[str, Any], *, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Everything that must be there before the first process: cluster, identities, ports. Nothing of ours runs yet.

    Raises ConfigurationError for a port in use, another PostgreSQL major version, a path too long for a socket.
    """
    profile, run_dir = deployment.profile, deployment.run_dir
    check_fixed_ports(deployment)
    release_ports(run_dir, [name for name, port in read_ports(run_dir).items() if not is_free(port)])
    choose_ports(run_dir, _ports_to_choose(deployment))
    if POSTGRES in deployment.services:
        if not (run_dir / "postgres").exists():
            tell("making the database cluster")
        connections = profile.get("database.connections_max")
        postgres.prepare_postgres(run_dir, password=secrets["postgres"]["fp_owner"], connections_max=connections)
    if OBJECTSTORE in deployment.services:
        bucket = profile.get("objectstore.bucket")
        objectstore.prepare_store(run_dir, credentials=store_credentials(dict(secrets)), bucket=bucket)


def refusal(deployment: Deployment, name: str) -> str | None:
    """None when the service does its job - a login, a real put and get -, else what it said."""
    if name == POSTGRES:
        return postgres.login_refusal(
            deployment.run_dir, password=read_secrets(deployment.run_dir)["postgres"]["fp_owner"]
        )
    return objectstore.store_refusal(_store_client(deployment.profile))


def settle(deployment: Deployment, name: str) -> None:
    """What is done once, when the service serves: the evidence bucket."""
    if name == OBJECTSTORE:
        objectstore.create_bucket(_store_client(deployment.profile), deployment.profile.get("objectstore.bucket"))


def tidy(deployment: Deployment) -> None:
    """Remove what the stopped services leave outside the run directory."""
    ports = _store_ports(deployment.profile)
    if OBJECTSTORE in deployment.services and all(name in ports for name in objectstore.PORT_NAMES):
        objectstore.remove_stray_sockets(ports)


def _store_ports(profile: Profile) -> dict[str, int]:
    ports = dict(read_ports(profile.run_dir))
    if fixed := profile.get("objectstore.port"):
        ports["objectstore_port"] = fixed
    return ports


def _ports_to_choose(deployment: Deployment) -> list[str]:
    store = objectstore.PORT_NAMES if OBJECTSTORE in deployment.services else ()
    return [name for name in (*store, "gate_port", "console_port") if not fixed_port(deployment.profile, name)]


def check_fixed_ports(deployment: Deployment) -> None:
    """Raises ConfigurationError for every port of the profile that somebody else holds."""
    profile, problems = deployment.profile, []
    for name, setting in SETTING_OF.items():
        port = fixed_port(profile, name)
        if name == "objectstore_port" and OBJECTSTORE not in deployment.services:
            continue
        host = profile.get("gate.host") if name == "gate_port" else "127.0.0.1"
        if port and not is_free(port, host=host):
            holder = port_holder(port) or "another process"
            variable = f"PLATFORM_{setting.replace('.', '_').upper()}"
            problems.append(
                f"{setting} = {port}: in use by {holder}; end it, or set another port ({variable}), 0 to choose a free one"
            )
    if problems:
        raise ConfigurationError(problems, source=f"profile {profile.name}")


@cache
def _client_of(endpoint: str, access_key: str, secret_key: str, region: str) -> Any:
    return objectstore.client_for(endpoint, access_key, secret_key, region=region)


def _store_client(profile: Profile) -> Any:
    keys = read_secrets(profile.run_dir)["objectstore"]
    endpoint = f"http://127.0.0.1:{chosen_port(profile, 'objectstore_port')}"
    return _client_of(endpoint, keys["access_key"], keys["secret_key"], profile.get("objectstore.region"))
