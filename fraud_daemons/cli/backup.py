"""platform backup FILE: the embedded data in one file, consistent and verified by its own manifest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import ExitCode


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@invocation
def command(call: Invocation, *, file: Path) -> int:
    """Write the run directory's data to FILE (tar.gz, only its owner may read it). The platform must be down.

    The file holds the credentials of secrets.json: whoever has it has the platform.
    """
    from fraud_daemons.clock import SystemClock
    from fraud_daemons.observability.disk import size_text
    from fraud_daemons.supervision.backup import backup

    deployment = call.deployment()
    done = backup(deployment, file, clock=SystemClock(), tell=call.tell)
    outside = () if deployment.profile.embedded_objectstore else (deployment.profile.get("objectstore.endpoint"),)
    document = {
        "file": str(done.file),
        "file_bytes": done.file_bytes,
        "elapsed_seconds": round(done.elapsed_seconds, 3),
        "holds_secrets": True,
        "not_in_it": outside,
        **asdict(done.header),
    }
    text = (
        f"{done.file}: {done.header.files} files, {size_text(done.header.data_bytes)} in {size_text(done.file_bytes)}"
        f" ({done.elapsed_seconds:.1f} s); it holds the credentials, keep it as you keep secrets.json"
    )
    left_out = f"\nnot in it: the objects at {outside[0]}" if outside else ""
    call.answer(document, text=text + left_out)
    return int(ExitCode.GOOD)
