"""SQL in files: `load(__package__, "name.sql")` reads a statement kept beside its module, once."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import LiteralString


@cache
def load(package: str, name: str) -> LiteralString:
    """The text of `name` in `package`. It is our own file, so psycopg may take it as a literal."""
    return resources.files(package).joinpath(name).read_text()
