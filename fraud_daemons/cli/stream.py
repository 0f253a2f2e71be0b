"""platform stream: ask the producer to stream a world, wait until every stage has caught up, and print the report."""

from __future__ import annotations

from typing import Any

import click

from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode

TIMEOUT_SECONDS = 600.0


@click.command()
@click.option("--world", required=True, metavar="W", help="A sealed world; see: platform world list.")
@click.option("--max-events-per-output", type=click.IntRange(min=1), default=None, metavar="N",
              help="Stop after N events of each output; default: producer.max_events_per_output, else the whole world.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=None, metavar="R",
              help="Transactions a second.")  # fmt: skip
@click.option("--speedup", type=click.FloatRange(min=0, min_open=True), default=None, metavar="S",
              help="Seconds of the world's time a second.")  # fmt: skip
@click.option("--run", "run_choice", type=click.Choice(["new", "current"]), default="current", show_default=True)
@click.option("--from", "origin", type=click.Choice(["cursor", "start"]), default="cursor", show_default=True,
              help="Behind what the run has, or from the world's beginning again.")  # fmt: skip
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until every stage has caught up, and report."
)
@timeout_option(TIMEOUT_SECONDS)
@invocation
def command(
    call: Invocation,
    *,
    world: str,
    max_events_per_output: int | None,
    rate: float | None,
    speedup: float | None,
    run_choice: str,
    origin: str,
    wait: bool,
    timeout_seconds: float,
) -> int:
    """Stream a sealed world through the gate. 0 = every record accounted for, 1 = not, or not in time."""
    from fraud_daemons.acceptance import streaming

    if rate and speedup:
        raise CommandError("--rate and --speedup exclude each other; give one", exit_code=ExitCode.USAGE)
    profile = call.load_profile()
    stream_id = streaming.request_stream(
        profile,
        world=world,
        platform_run_id=_run_id(profile, run_choice),
        max_events_per_output=max_events_per_output,
        rate=rate,
        speedup=speedup,
        origin=origin,
    )
    if not wait:
        call.answer({"stream_id": stream_id}, text=f"asked for stream {stream_id}")
        return int(ExitCode.GOOD)
    call.tell(f"stream {stream_id} of world {world}")
    document = streaming.follow(profile, stream_id, timeout_seconds=timeout_seconds, tell=call.tell)
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)


def _run_id(profile: Profile, choice: str) -> str:
    from fraud_daemons.acceptance import streaming

    if choice == "new":
        return streaming.new_run(profile).platform_run_id
    run = streaming.current_run(profile)
    if run is None:
        raise CommandError("no run has begun; begin one with: platform run new, or give --run new")
    return run.platform_run_id


def _text(document: dict[str, Any]) -> str:
    from fraud_daemons.acceptance.reporting import render_outputs, render_verdict

    return "\n".join([*render_outputs(document), "", *render_verdict(document)])
