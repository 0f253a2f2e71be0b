"""Which code a process runs: the release and a digest of the package's files as they stood when it looked.

Two processes that say the same run the same code; after an upgrade, one that was not restarted says something else.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import fraud_daemons

_SUFFIXES = (".py", ".sql", ".json")


@cache
def code_version() -> str:
    """`<release>+<12 hex digits>`; read once per process, so it tells what was there when the process began."""
    package = Path(fraud_daemons.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.suffix in _SUFFIXES:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{fraud_daemons.__version__}+{digest.hexdigest()[:12]}"
