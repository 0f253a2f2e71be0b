"""Evidence objects in a folder: what a copy of the bucket looks like, one file per key. Read only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fraud_daemons.errors import FatalFault
from fraud_daemons.evidence.port import ObjectFacts


class EvidenceFolder:
    """The reading half of an EvidenceStore over files. Raises FatalFault for what cannot be read."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, prefix: str) -> Iterator[ObjectFacts]:
        """Every file whose key begins with `prefix`, in key order within each folder."""
        start = self._root / prefix.rpartition("/")[0]
        for folder, folders, files in os.walk(start, onerror=_refuse):
            folders.sort()
            for name in sorted(files):
                path = Path(folder) / name
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    yield ObjectFacts(key, path.stat().st_size)

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        try:
            return (self._root / key).read_bytes()
        except OSError as error:
            raise _unreadable(key, error) from error


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a prefix that nothing has is an empty listing
        raise _unreadable(str(error.filename), error) from error


def _unreadable(what: str, error: OSError) -> FatalFault:
    return FatalFault(f"archive folder: {what}: {error.strerror}", reason="archive folder: cannot be read")
