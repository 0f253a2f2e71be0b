"""platform drill: a named fault on the running platform, with its verdict; only on profiles marked for drills."""

from __future__ import annotations

from typing import Any

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import CommandError, ExitCode

DEFAULT_SEED = 20260210
SECONDS_MAX = 600
RATE_MAX = 2000
MINUTES_MAX = 24 * 60
FAULTS_MAX = 100_000


@click.command()
@click.argument("name", metavar="list|NAME|campaign|soak")
@click.option("--seed", type=click.IntRange(min=0), default=DEFAULT_SEED, show_default=True, metavar="N",
              help="The same seed makes the same choices.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0.1, max=SECONDS_MAX), default=None, metavar="S",
              help="How long the fault lasts (connection-churn: the hold); default: the drill's own.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=1, max=RATE_MAX), default=150.0, show_default=True, metavar="R",
              help="Transactions a second that stream meanwhile.")  # fmt: skip
@click.option("--ports", type=click.IntRange(min=100, max=7000), default=2800, show_default=True, metavar="N",
              help="connection-churn: how many ephemeral ports there are.")  # fmt: skip
@click.option("--faults", type=click.IntRange(min=1, max=FAULTS_MAX), default=100, show_default=True, metavar="N",
              help="campaign: how many faults.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(min=0.5, max=MINUTES_MAX), default=60.0, show_default=True, metavar="M",
              help="soak: how long.")  # fmt: skip
@click.option("--round-transactions", type=click.IntRange(min=500), default=4000, show_default=True, metavar="N",
              help="campaign, soak: transactions of a round, which ends in a report.")  # fmt: skip
@click.option("--network", is_flag=True, help="campaign, soak: a platform of its own, its workers behind a proxy.")
@invocation
def command(call: Invocation, *, name: str, seed: int, seconds: float | None, rate: float, **options: Any) -> int:
    """Break something for real and hold what is left to the run report. 0 = PASS, 1 = FAIL, 4 = cannot run here.

    `campaign` deals many faults under a stream and compares every round with an undisturbed one; `soak` does so for a time
    and judges whether memory, files, sockets, disk and latency stay flat.
    """
    from fraud_daemons.acceptance.drills import campaign, churn, conductor
    from fraud_daemons.acceptance.drills.catalogue import find_drill

    if name == "list":
        return _list(call)
    profile = call.load_profile()
    if name == churn.NAME:
        document = churn.reproduce(profile, seed=seed, hold_seconds=seconds, ports=options["ports"], tell=call.tell)
        text = churn.render(document)
    elif name in ("campaign", "soak"):
        if seconds is not None:
            raise CommandError(
                f"--seconds means nothing to {name}; give --faults or --minutes", exit_code=ExitCode.USAGE
            )
        until = {"faults": options["faults"]} if name == "campaign" else {"minutes": options["minutes"]}
        plan = campaign.Plan(seed=seed, rate=rate, round_transactions=options["round_transactions"], **until)
        document = campaign.run_campaign(profile, plan, network=options["network"], tell=call.tell)
        text = campaign.render(document)
    else:
        drill = find_drill(name)
        document = conductor.run_drill(profile, drill, seed=seed, seconds=seconds, rate=rate, tell=call.tell)
        text = conductor.render(document)
    call.answer(document, text=text)
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)


def _list(call: Invocation) -> int:
    from fraud_daemons.acceptance.drills import churn
    from fraud_daemons.acceptance.drills.catalogue import DRILLS

    rows = [{"drill": d.name, "does": d.does, "seconds": d.seconds, "proofs": d.proofs} for d in DRILLS.values()]
    named = [*((d.name, d.does) for d in DRILLS.values()), (churn.NAME, churn.DOES)]
    text = "\n".join(f"{name:<28} {does}" for name, does in named)
    call.answer({"drills": rows, "reproductions": [churn.NAME]}, text=text)
    return int(ExitCode.GOOD)
