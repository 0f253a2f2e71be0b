"""platform deadletters: poison that was set aside, with its reason. Redrive and skip come with their own issue."""

from __future__ import annotations

import base64
from collections.abc import Mapping
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
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.state.letters import LetterAddress, find_letter, list_letters


@click.group()
def command() -> None:
    """Records that can never pass as they are, with what was wrong. A letter is WORKER:TOPIC:PARTITION:POSITION."""


@command.command("list")
@click.option("--worker", default=None, metavar="WORKER", help="Only letters of this worker.")
@run_option
@page_options("LETTER")
@invocation
def list_command(call: Invocation, *, worker: str | None, run: str | None, limit: int, after: str | None) -> int:
    """A run's dead letters, oldest first."""
    behind = None if after is None else _address(after, hint="--after")
    with reading(call.load_profile(), "deadletters") as tables_of:
        chosen = chosen_run(tables_of(PLATFORM_DSN), run)
        last = None if behind is None else find_letter(tables_of, behind)
        if behind is not None and last is None:
            raise _unknown(behind)
        rows = list_letters(tables_of, chosen, worker=worker, after=last, limit=limit)
    letters = [{"letter": str(_address_of(row)), **jsonable(row)} for row in rows]
    more = next_page(rows, letters[-1]["letter"] if letters else None, limit=limit)
    table = aligned(
        ("LETTER", "STATE", "DEAD SINCE", "EVENT", "REASON"),
        [(row["letter"], row["state"], row["dead_at"], row["event_id"], row["reason"]) for row in letters],
    )
    document = {"platform_run_id": chosen, "letters": letters, "next": more}
    call.answer(document, text=with_footer(table, more) if letters else f"no dead letters in {chosen}")
    return int(ExitCode.GOOD)


@command.command("show")
@click.argument("letter")
@invocation
def show_command(call: Invocation, *, letter: str) -> int:
    """One letter with its record. 1 when there is no such letter."""
    address = _address(letter, hint="LETTER")
    with reading(call.load_profile(), "deadletters") as tables_of:
        row = find_letter(tables_of, address)
    if row is None:
        raise _unknown(address)
    raw = bytes(row.pop("body"))
    document = {"letter": str(address), **jsonable(row), **_body(raw)}
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD)


def _address(text: str, *, hint: str) -> LetterAddress:
    try:
        return LetterAddress.parse(text)
    except ValueError as error:
        message = f"{text!r} is no letter; write WORKER:TOPIC:PARTITION:POSITION, as `platform deadletters list` does"
        raise click.BadParameter(message, param_hint=hint) from error


def _address_of(row: Mapping[str, Any]) -> LetterAddress:
    return LetterAddress(row["worker"], row["topic"], row["partition"], row["position"])


def _unknown(address: LetterAddress) -> CommandError:
    return CommandError(f"no dead letter {address}; see: platform deadletters list")


def _body(raw: bytes) -> dict[str, Any]:
    """The record as JSON where it is any, else its bytes: poison need not be readable."""
    try:
        return {"body": orjson.loads(raw)}
    except orjson.JSONDecodeError:
        return {"body": None, "body_base64": base64.b64encode(raw).decode()}


def _text(document: Mapping[str, Any]) -> str:
    names = ("letter", "state", "platform_run_id", "event_id", "record_key", "dead_at", "reason", "detail")
    head = "\n".join(f"{name.replace('_', ' '):<16} {document[name]}" for name in names)
    if document["body"] is None:
        return f"{head}\n\nnot JSON, base64:\n{document['body_base64']}"
    return f"{head}\n\n{orjson.dumps(document['body'], option=orjson.OPT_INDENT_2).decode()}"
