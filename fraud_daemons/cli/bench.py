"""platform bench: the whole line on the running platform, beside two bare probes on the same server."""

from __future__ import annotations

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import ExitCode


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=60, show_default=True, metavar="S",
              help="At least how long to stream flat out; the warm-up's rate says how many that are.")  # fmt: skip
@click.option("--transactions", type=click.IntRange(min=100), default=None, metavar="N",
              help="How many to stream flat out, whatever time they take.")  # fmt: skip
@click.option("--warm-up", type=click.IntRange(min=100), default=20_000, show_default=True, metavar="N",
              help="How many to stream before anything is measured; after fewer, growth of memory says nothing.")  # fmt: skip
@click.option("--paced-seconds", type=click.IntRange(min=0), default=30, show_default=True, metavar="S",
              help="Length of each paced part; 0 leaves them out.")  # fmt: skip
@click.option("--probes/--no-probes", default=True, help="Measure the yardsticks too (about a minute).")
@invocation
def command(
    call: Invocation, *, seconds: int, transactions: int | None, warm_up: int, paced_seconds: int, probes: bool
) -> int:
    """How fast, how much memory, how many sessions - as ratios to what the bare server can do."""
    from fraud_daemons.acceptance.benchmark import Benchmark, Plan

    plan = Plan(warm_up=warm_up, seconds=seconds, transactions=transactions, paced_seconds=paced_seconds, probes=probes)
    figures = Benchmark(call.load_profile(), plan, tell=call.tell).run()
    call.answer(figures, text="\n".join(f"{name:<28} {value}" for name, value in figures.items()))
    return int(ExitCode.GOOD)
