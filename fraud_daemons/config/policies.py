"""Finds and reads a decision policy: `config/policies/<name>.toml` below the project root, checked as a whole."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from fraud_daemons.domain.policy import Policy, parse_policy
from fraud_daemons.errors import ConfigurationError

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


def policies_folder(root: Path) -> Path:
    """Where the policies of a project stand."""
    return root / "config" / "policies"


def read_policy(root: Path, name: str) -> Policy:
    """The policy `name`. Raises ConfigurationError with every problem; a rule that reads a label is one."""
    return policy_of(policy_text(root, name), source=f"policy {name}")


def policy_text(root: Path, name: str) -> str:
    """The text of the policy `name`. Raises ConfigurationError when there is none or it cannot be read."""
    path = policies_folder(root) / f"{name}.toml"
    if not _NAME.fullmatch(name):
        problem = f"decision.policy = {name!r}: a policy's name is lower-case letters, digits and _"
        raise ConfigurationError([problem], source="profile")
    try:
        return path.read_text()
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in policies_folder(root).glob("*.toml"))) or "none"
        raise ConfigurationError(
            [f"decision.policy = {name!r}: there is no {path.name} in config/policies; known: {known}"],
            source="profile",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"not valid TOML: {error}"], source=f"policy {name}") from error
    except OSError as error:
        raise ConfigurationError([f"cannot be read: {error.strerror}"], source=f"policy {name}") from error


def policy_of(text: str, *, source: str) -> Policy:
    """The policy in a TOML text. Raises ConfigurationError with every problem."""
    return parse_policy(document_of(text, source=source), source=source)


def document_of(text: str, *, source: str) -> dict[str, Any]:
    """The TOML text as a table. Raises ConfigurationError when it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"not valid TOML: {error}"], source=source) from error
    except RecursionError as error:
        raise ConfigurationError(["nested too deeply to be a policy"], source=source) from error
