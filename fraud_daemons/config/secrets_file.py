"""The generated credentials of a run directory: made at first start, never defaults, file mode 0600.

Workers read this file again when a credential is refused, so rotation needs no restart. Values never go to argv,
logs, status or reports.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fraud_daemons.errors import ConfigurationError

FILE_NAME = "secrets.json"


def generate_password() -> str:
    """192 bits in URL-safe text."""
    return secrets.token_urlsafe(24)


def read_secrets(run_dir: Path) -> dict[str, Any]:
    """The secrets of `run_dir`, {} before the first start. Raises ConfigurationError when others could read them."""
    path = run_dir / FILE_NAME
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError([f"{path} is readable by others; run: chmod 600 {path}"], source="secrets")
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigurationError([f"{path} is not valid JSON: {error}"], source="secrets") from error
    return content


def write_secrets(run_dir: Path, content: Mapping[str, Any]) -> None:
    """Replace the secrets file atomically, mode 0600."""
    path = run_dir / FILE_NAME
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
