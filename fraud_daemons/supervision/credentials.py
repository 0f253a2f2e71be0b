"""Generates what `secrets.json` holds: at first start everything, later only what is missing. Nothing is ever a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fraud_daemons.config.dsns import SCHEMA_OF
from fraud_daemons.config.embedded import OWNER_ROLE
from fraud_daemons.config.secrets_file import generate_password, read_secrets, write_secrets
from fraud_daemons.supervision.substrate.objectstore import StoreCredentials

# beside one role per schema: who reports, who runs the runs, and the operator's own commands
_FURTHER_ROLES: Final = (OWNER_ROLE, "fp_operator", "fp_reporter", "fp_conformance", "fp_console", "fp_control")
_FURTHER_SECRETS: Final = {
    "objectstore": ("access_key", "secret_key", "writer_access_key", "writer_secret_key"),
    "gate": ("producer_key", "client_key"),
    "webhook": ("signing_key",),
    "console": ("token",),
    "alerts": ("signing_key",),
}


def ensure_secrets(run_dir: Path) -> dict[str, Any]:
    """The secrets of `run_dir`, generating what is missing; existing ones are never changed."""
    secrets = read_secrets(run_dir)
    roles = sorted({f"fp_{schema}" for schema in SCHEMA_OF.values()} | set(_FURTHER_ROLES))
    added = False
    for section, names in {"postgres": tuple(roles), **_FURTHER_SECRETS}.items():
        present = secrets.setdefault(section, {})
        for name in names:
            if name not in present:
                present[name] = generate_password()
                added = True
    if added:
        write_secrets(run_dir, secrets)
    return secrets


def store_credentials(secrets: dict[str, Any]) -> StoreCredentials:
    """The object store's two identities."""
    return StoreCredentials(**{name: secrets["objectstore"][name] for name in _FURTHER_SECRETS["objectstore"]})
