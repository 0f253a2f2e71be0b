"""platform decisions: what was decided, newest first, and one decision with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
import orjson

from fraud_daemons.cli._listing import (
    aligned,
    chosen_run,
    jsonable,
    next_page,
    page_options,
    reading,
    run_option,
    with_footer,
)
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import iso, parse_iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.decisions import ABSENT, PRESENT
from fraud_daemons.domain.policy import OUTCOMES
from fraud_daemons.domain.posture import Mode
from fraud_daemons.errors import CommandError, ExitCode


class _Moment(click.ParamType[datetime]):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_iso(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time with a zone, such as 2026-02-10T09:00:00Z", param, ctx)


@click.group()
def command() -> None:
    """Decisions: one per transaction, with reasons, policy and posture."""


@command.command("list")
@click.option("--outcome", type=click.Choice(OUTCOMES, case_sensitive=False), default=None)
@click.option("--since", type=_Moment(), default=None, help="Decided at or after this time, with a zone.")
@click.option("--posture", type=click.Choice([str(mode) for mode in Mode], case_sensitive=False), default=None)
@click.option("--features", type=click.Choice((PRESENT, ABSENT), case_sensitive=False), default=None,
              help="Decided with features, or without.")  # fmt: skip
@click.option("--card", default=None, metavar="CARD_TOKEN", help="Only this card's.")
@click.option("--flow", default=None, metavar="FLOW_ID", help="Only this flow's.")
@run_option
@page_options("DECISION_ID")
@invocation
def list_command(
    call: Invocation, *, outcome: str | None, since: datetime | None, posture: str | None, features: str | None,
    card: str | None, flow: str | None, run: str | None, limit: int, after: str | None,
) -> int:  # fmt: skip
    """A run's decisions, newest first."""
    from fraud_daemons.state import decisions

    with reading(call.load_profile(), "decisions") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("DF_REPLAY_DSN")
        if after is not None and decisions.body_of(connection, after) is None:
            raise _unknown(after)
        rows = decisions.listing(
            connection, run=chosen, outcome=outcome and outcome.upper(), since=since, after=after, limit=limit,
            only={"posture": posture and posture.upper(), "features": features and features.upper(), "card": card,
                  "flow": flow},
        )  # fmt: skip
    more = next_page(rows, rows[-1].decision_id if rows else None, limit=limit)
    document = {"platform_run_id": chosen, "decisions": [jsonable(asdict(row)) for row in rows], "next": more}
    table = aligned(
        ("DECISION", "OUTCOME", "SCORE", "FLOW", "OCCURRED", "DECIDED", "FEATURES", "CONTEXT", "POSTURE"),
        [
            (
                row.decision_id,
                row.outcome,
                row.score,
                row.flow_id,
                row.occurred_at,
                row.decided_at,
                row.feature_status,
                row.context_status,
                row.posture_mode,
            )
            for row in rows
        ],
    )
    call.answer(document, text=with_footer(table, more) if rows else f"no such decisions in {chosen}")
    return int(ExitCode.GOOD)


@command.command("show")
@click.argument("decision_id")
@invocation
def show_command(call: Invocation, *, decision_id: str) -> int:
    """One decision as it was published. 1 when there is no such decision."""
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import decisions

    with operator_database(call.load_profile(), "decisions", "DF_REPLAY_DSN").scope() as connection:
        body = decisions.body_of(connection, decision_id)
    if body is None:
        raise _unknown(decision_id)
    document = orjson.loads(body)
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD)


def _unknown(decision_id: str) -> CommandError:
    return CommandError(f"no decision {decision_id!r}; see: platform decisions list")


def _text(body: Mapping[str, Any]) -> str:
    traffic, policy, posture = body["traffic"], body["policy"], body["posture"]
    admitted = iso(datetime.fromtimestamp(body["admitted_at"], UTC)) if body["admitted_at"] else "-"
    topic, partition, position = body["sources"]["decided_from"]
    lines = [
        f"decision   {body['decision_id']}",
        f"outcome    {body['outcome']}  score {body['score']}",
        f"flow       {body['flow_id']} in {body['platform_run_id']}, world {body['world'] or '-'}",
        f"amount     {traffic['amount_minor']:,} minor units {traffic['currency']}",
        f"occurred   {body['occurred_at']}  place {body['source_seq']}",
        f"admitted   {admitted}",
        f"decided    {body['decided_at']}  from {topic} {partition}/{position}",
        f"card       {body['card_token'] or '-'}  terminal {body['terminal_id'] or '-'}  merchant {body['merchant_id'] or '-'}",
        f"context    {body['context_status']}  features {body['feature_status']}",
        f"policy     {policy['policy_id']} revision {policy['revision']}  {policy['digest'][:16]}",
        f"posture    {posture['mode']} ({posture['sequence']})",
        f"digest     {body['core_digest']}",
        f"intents    {', '.join(body['intents']) or 'none'}",
        "",
    ]
    reasons = [(reason["rule_id"], reason["weight"], reason["reason"]) for reason in body["reasons"]]
    lines.append(aligned(("RULE", "WEIGHT", "REASON"), reasons) if reasons else "no rule fired")
    return "\n".join(lines)
