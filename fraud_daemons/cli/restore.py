"""platform restore FILE: a backup back into its place, verified before anything is changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import ExitCode


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Move a run directory that is not empty aside.")
@invocation
def command(call: Invocation, *, file: Path, replace: bool) -> int:
    """Put the data of FILE in the place of the run directory. The platform must be down."""
    from fraud_daemons.clock import SystemClock
    from fraud_daemons.supervision.backup import restore

    deployment = call.deployment()
    done = restore(deployment, file, replace=replace, clock=SystemClock(), tell=call.tell)
    if done.header.profile != deployment.profile.name:
        call.tell(f"it was made under profile {done.header.profile}, and is now that of {deployment.profile.name}")
    document = {
        "restored": str(deployment.run_dir),
        "moved_aside": str(done.moved_aside) if done.moved_aside else None,
        "elapsed_seconds": round(done.elapsed_seconds, 3),
        **asdict(done.header),
    }
    aside = f"; what was there is now {done.moved_aside}" if done.moved_aside else ""
    text = f"restored to {deployment.run_dir} as of {done.header.created_at} ({done.elapsed_seconds:.1f} s){aside}"
    call.answer(document, text=f"{text}\nnext: platform up")
    return int(ExitCode.GOOD)
