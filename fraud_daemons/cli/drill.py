"""platform drill: a named fault on the running platform, with its verdict; only on profiles marked for drills."""

from __future__ import annotations

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import ExitCode

DEFAULT_SEED = 20260210
SECONDS_MAX = 600
RATE_MAX = 2000


@click.command()
@click.argument("name", metavar="list|NAME")
@click.option("--seed", type=click.IntRange(min=0), default=DEFAULT_SEED, show_default=True, metavar="N",
              help="The same seed makes the same choices.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0.1, max=SECONDS_MAX), default=None, metavar="S",
              help="How long the fault lasts; default: the drill's own.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=1, max=RATE_MAX), default=150.0, show_default=True, metavar="R",
              help="Transactions a second that stream meanwhile.")  # fmt: skip
@click.option("--ports", type=click.IntRange(min=100, max=7000), default=2800, show_default=True, metavar="N",
              help="connection-churn: how many ephemeral ports there are.")  # fmt: skip
@invocation
def command(call: Invocation, *, name: str, seed: int, seconds: float | None, rate: float, ports: int) -> int:
    """Break something for real and hold what is left to the run report. 0 = PASS, 1 = FAIL, 4 = cannot run here."""
    from fraud_daemons.acceptance.drills import churn, conductor
    from fraud_daemons.acceptance.drills.catalogue import DRILLS, find_drill

    if name == "list":
        rows = [{"drill": d.name, "does": d.does, "seconds": d.seconds, "proofs": d.proofs} for d in DRILLS.values()]
        named = [*((d.name, d.does) for d in DRILLS.values()), (churn.NAME, churn.DOES)]
        call.answer(
            {"drills": rows, "reproductions": [churn.NAME]}, text="\n".join(f"{n:<28} {does}" for n, does in named)
        )
        return int(ExitCode.GOOD)
    if name == churn.NAME:
        document = churn.reproduce(call.load_profile(), seed=seed, hold_seconds=seconds, ports=ports, tell=call.tell)
        call.answer(document, text=churn.render(document))
        return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)
    drill = find_drill(name)
    document = conductor.run_drill(call.load_profile(), drill, seed=seed, seconds=seconds, rate=rate, tell=call.tell)
    call.answer(document, text=conductor.render(document))
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)
