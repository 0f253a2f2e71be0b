"""platform accept: the whole acceptance sequence on the running platform, gate by gate."""

from __future__ import annotations

from typing import Any

import click

from fraud_daemons.cli.options import Invocation, invocation

HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX = 60.0, 3600.0
STREAMING_SECONDS_DEFAULT, STREAMING_SECONDS_MAX = 3.0, 120.0


@click.command()
@click.option("--hold-seconds", type=click.FloatRange(min=1, max=HOLD_SECONDS_MAX), default=HOLD_SECONDS_DEFAULT,
              show_default=True, metavar="S", help="How long nothing may happen after the stream.")  # fmt: skip
@click.option("--streaming-seconds", type=click.FloatRange(min=0.1, max=STREAMING_SECONDS_MAX),
              default=STREAMING_SECONDS_DEFAULT, show_default=True, metavar="S",
              help="How long each of the two streams may take; more only on a machine that has other work.")  # fmt: skip
@click.option(
    "--world", default=None, metavar="W", help="A sealed world of 220 transactions or more; default: its own."
)
@invocation
def command(call: Invocation, *, hold_seconds: float, streaming_seconds: float, world: str | None) -> int:
    """Gate-20, Gate-200, liveness, idle hold, recurrence scan, connections, run report, environment. 0 = every gate PASS,
    1 = one failed, 3 = not running, 4 = one could not be measured. On a fresh run; run nothing else beside it."""
    from fraud_daemons.acceptance.sequence import accept, open_scene

    deployment = call.deployment()
    scene = open_scene(
        deployment.profile, deployment, hold_seconds=hold_seconds, streaming_seconds_max=streaming_seconds,
        world=world, tell=call.tell,
    )  # fmt: skip
    document, code = accept(scene)
    call.answer(document, text=_text(document))
    return int(code)


def _text(document: dict[str, Any]) -> str:
    lines = [f"run {document['platform_run_id']}"]
    for gate in document["gates"]:
        lines.append(f"  {gate['verdict']:<4}  {gate['gate']:<24}{gate['observed']}")
        if gate["verdict"] != "PASS":
            lines.append(f"  {'':<30}wanted: {gate['expected']}")
    passed = sum(gate["verdict"] == "PASS" for gate in document["gates"])
    lines.append(f"verdict  {document['verdict']}: {passed} of {len(document['gates'])} gates pass")
    return "\n".join([*lines, f"evidence {document['evidence']['object_key']}"])
