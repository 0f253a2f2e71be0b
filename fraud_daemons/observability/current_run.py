"""Which run is current, as a file for the status screen: a hint written by `platform run new`.

The truth is the newest row of control.runs; status must not depend on the database whose outage it reports.
"""

from __future__ import annotations

import os
from pathlib import Path

FILE_NAME = "current_run"


def note_current_run(run_dir: Path, platform_run_id: str) -> None:
    """Remember the run that has just begun."""
    temporary = run_dir / f"{FILE_NAME}.new"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(platform_run_id + "\n")
    temporary.replace(run_dir / FILE_NAME)


def read_current_run(run_dir: Path) -> str | None:
    """The run that began last in this run directory; None before the first."""
    try:
        return (run_dir / FILE_NAME).read_text().strip() or None
    except OSError:
        return None
