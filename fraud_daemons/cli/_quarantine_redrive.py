"""platform quarantine redrive: what was refused goes through the gate again, after a mend."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli._case_changes import actor_of
from fraud_daemons.cli._listing import jsonable, reading
from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.dsns import IG_ADMISSION_DSN, PLATFORM_DSN
from fraud_daemons.domain.quarantine_redrives import request
from fraud_daemons.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.state.redrives import RedriveAnswer

EVENTS_MAX = 100
REASON_CHARACTERS_MAX = 500
_ANSWER_SECONDS = 15


@click.command("redrive")
@click.argument("quarantine_ids", nargs=-1, required=True, metavar="QUARANTINE_ID...")
@click.option("--reason", required=True, help="What was mended; it stays with the event.")
@click.option("--by", default=None, metavar="NAME", help="Who asks; default: the user's name.")
@timeout_option(_ANSWER_SECONDS)
@invocation
def redrive_command(
    call: Invocation, *, quarantine_ids: tuple[str, ...], reason: str, by: str | None, timeout_seconds: float
) -> int:
    """Send the original bytes of QUARANTINE_IDs through the gate again, under the rules of now.

    0 when each is admitted, now or before; 1 when one was refused again: its reason is named, and it stays as it was."""
    wanted = list(dict.fromkeys(quarantine_ids))
    if len(wanted) > EVENTS_MAX:
        raise click.UsageError(f"{len(wanted)} events at once; at most {EVENTS_MAX}")
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX or "\0" in reason:
        raise click.BadParameter(f"must be a text of 1 to {REASON_CHARACTERS_MAX} characters", param_hint="--reason")
    profile, who = call.load_profile(), actor_of(by)
    runs = _runs_of(profile, wanted)
    rows = []
    for quarantine_id, run in runs.items():
        answer = _ask(
            profile, quarantine_id, run=run, who=who, reason=reason, timeout_seconds=timeout_seconds
        )  # fmt: skip
        rows.append(_told(profile, quarantine_id, answer))
    admitted = sum(row["outcome"] != "REFUSED" for row in rows)
    call.answer({"redriven": rows, "admitted": admitted}, text="\n".join(map(_line, rows)))
    return int(ExitCode.GOOD if admitted == len(rows) else ExitCode.NO)


def _runs_of(profile: Profile, wanted: list[str]) -> dict[str, str]:
    """Quarantine id -> the run it lies under. Raises CommandError for one that is unknown, before anything is asked."""
    from fraud_daemons.state import receipts

    runs = {}
    with reading(profile, "quarantine") as tables_of:
        for quarantine_id in wanted:
            row = receipts.quarantine_row(tables_of(IG_ADMISSION_DSN), quarantine_id)
            if row is None:
                raise CommandError(
                    f"nothing refused has the id {quarantine_id!r}, nothing was redriven; see: platform quarantine list"
                )
            runs[quarantine_id] = row["platform_run_id"]
    return runs


def _ask(
    profile: Profile, quarantine_id: str, *, run: str, who: str, reason: str, timeout_seconds: float
) -> RedriveAnswer:
    """The gate's answer, written down as a deed of a person."""
    from fraud_daemons.acceptance.asking import Owner, ask
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import governance, redrives

    clock = SystemClock()
    now = clock.now()
    body = request(
        platform_run_id=run, quarantine_id=quarantine_id, asked_by=who, reason=reason, requested_at=iso(now)
    )  # fmt: skip
    owner = Owner("ingestion_gate", IG_ADMISSION_DSN, redrives.answer_to)
    database_of = partial(operator_database, profile, "quarantine")
    with database_of(PLATFORM_DSN).scope() as connection:  # first: who asked is known whatever becomes of it
        governance.record(
            connection, governance.Kind.QUARANTINE_REDRIVEN, subject=quarantine_id, by=who, at=now,
            detail={"request_id": body["request_id"], "reason": reason}, platform_run_id=run or None,
        )  # fmt: skip
    return ask(
        body, owner, key=quarantine_id, database_of=database_of, beats=profile.path("beats"), clock=clock,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip


def _told(profile: Profile, quarantine_id: str, answer: RedriveAnswer) -> dict[str, Any]:
    from fraud_daemons.state import redrives

    row: dict[str, Any] = {
        "quarantine_id": quarantine_id,
        "outcome": answer.outcome,
        "refusal": answer.refusal or None,
        "detail": answer.detail or None,
        "receipt": None,
    }
    if answer.is_admitted:
        with reading(profile, "quarantine") as tables_of:
            found = redrives.of_quarantined(tables_of(IG_ADMISSION_DSN), quarantine_id)
        linked = next(jsonable(each) for each in found if each["outcome"] != "REFUSED")  # all lead to one receipt
        names = (
            "admitted_run",
            "event_type",
            "event_id",
            "topic",
            "partition",
            "position",
            "payload_hash",
            "admitted_at",
        )
        row["receipt"] = {name: linked[name] for name in names}
    return row


def _line(row: dict[str, Any]) -> str:
    if row["receipt"] is None:
        return f"{row['quarantine_id']}  refused again, {row['refusal']}: {row['detail']}"
    receipt = row["receipt"]
    said = "admitted" if row["outcome"] == "ADMITTED" else "was admitted before"
    where = f"{receipt['topic']}/{receipt['partition']}/{receipt['position']}"
    return f"{row['quarantine_id']}  {said}: event {receipt['event_id']} at {where} in {receipt['admitted_run']}"
