"""platform deadletters: poison that was set aside, with its reason; hand it to its worker again, or leave it for good."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

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
from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import CommandError, ExitCode
from fraud_daemons.state.letters import LetterAddress, find_letter, list_letters

if TYPE_CHECKING:
    from datetime import datetime

    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.runtime.database import Database
    from fraud_daemons.state.letter_orders import Order

STATES = ("DEAD", "REDRIVEN", "SKIPPED")
LETTERS_MAX = 100
_ANSWER_SECONDS = 30
_PAST = {"REDRIVE": "redriven", "SKIP": "skipped"}


@click.group()
def command() -> None:
    """Records that can never pass as they are, with what was wrong. A letter is WORKER:TOPIC:PARTITION:POSITION."""


@command.command("list")
@click.option("--worker", default=None, metavar="WORKER", help="Only letters of this worker.")
@click.option(
    "--state", type=click.Choice(STATES, case_sensitive=False), default=None, help="Only letters in this state."
)
@run_option
@page_options("LETTER")
@invocation
def list_command(
    call: Invocation, *, worker: str | None, state: str | None, run: str | None, limit: int, after: str | None
) -> int:
    """A run's dead letters, oldest first."""
    behind = None if after is None else _address(after, hint="--after")
    with reading(call.load_profile(), "deadletters") as tables_of:
        chosen = chosen_run(tables_of(PLATFORM_DSN), run)
        last = None if behind is None else find_letter(tables_of, behind)
        if behind is not None and last is None:
            raise _unknown(behind)
        rows = list_letters(tables_of, chosen, worker=worker, state=state and state.upper(), after=last, limit=limit)
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
    from fraud_daemons.state.letter_orders import shown_orders
    from fraud_daemons.state.letters import server_of

    with reading(call.load_profile(), "deadletters") as tables_of:
        row = find_letter(tables_of, address)
        if row is None:
            raise _unknown(address)
        orders = [jsonable(order) for order in shown_orders(server_of(tables_of, address), address)]
    raw = bytes(row.pop("body"))
    document = {"letter": str(address), **jsonable(row), "orders": orders, **_body(raw)}
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD)


def _ordering(function: Any) -> Any:
    """What both orders have alike: the letters, why, and who."""
    function = click.option("--by", default=None, metavar="NAME", help="Who orders it; default: the user's name.")(
        function
    )
    function = click.option("--reason", required=True, help="Why; it stays with the letter.")(function)
    return click.argument("letters", nargs=-1, required=True, metavar="LETTER...")(function)


@command.command("redrive")
@_ordering
@timeout_option(_ANSWER_SECONDS)
@invocation
def redrive_command(
    call: Invocation, *, letters: tuple[str, ...], reason: str, by: str | None, timeout_seconds: float
) -> int:
    """Hand LETTERs to their workers again, each exactly once. 0 when every one passed now, 1 when one did not."""
    from fraud_daemons.acceptance.letters import wait_for_end

    profile = call.load_profile()
    clock = SystemClock()
    given = _order(profile, letters, "REDRIVE", reason=reason, by=by)
    ended = wait_for_end(
        given, database_of=partial(_database, profile), beats=profile.path("beats"), clock=clock,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip
    rows = [{"letter": str(each), **asdict(order)} for each, order in ended.items()]
    good = all(row["state"] == "DONE" for row in rows)
    lines = [f"{row['letter']}  {_ended(row)}" for row in rows]
    call.answer({"letters": rows, "redriven": sum(row["state"] == "DONE" for row in rows)}, text="\n".join(lines))
    return int(ExitCode.GOOD if good else ExitCode.NO)


@command.command("skip")
@_ordering
@invocation
def skip_command(call: Invocation, *, letters: tuple[str, ...], reason: str, by: str | None) -> int:
    """Leave LETTERs for good: they stay readable and stay a term of the report, and no longer wait for anybody."""
    given = _order(call.load_profile(), letters, "SKIP", reason=reason, by=by)
    rows = [{"letter": str(each), **asdict(order)} for each, order in given.items()]
    call.answer({"letters": rows}, text="\n".join(f"{row['letter']}  skipped" for row in rows))
    return int(ExitCode.GOOD)


def _order(
    profile: Profile, texts: tuple[str, ...], kind: str, *, reason: str, by: str | None
) -> dict[LetterAddress, Order]:
    """Order the same of each letter, in one transaction per letter. The first that is refused ends it, and is named."""
    from fraud_daemons.state import governance, letter_orders, retiring
    from fraud_daemons.state.letters import server_of
    from fraud_daemons.supervision.waiting import operator_name

    addresses = list(dict.fromkeys(_address(text, hint="LETTER") for text in texts))
    if len(addresses) > LETTERS_MAX:
        raise click.UsageError(f"{len(addresses)} letters at once; at most {LETTERS_MAX}")
    if not reason.strip() or "\0" in reason:
        raise click.BadParameter("say why in a few words", param_hint="--reason")
    given: dict[LetterAddress, Order] = {}
    who, now = by or operator_name(), SystemClock().now()
    for address in addresses:
        try:
            with reading(profile, "deadletters") as tables_of:
                platform = tables_of(PLATFORM_DSN)  # borrowed first, so given back last: it holds the run's lock
                letter = find_letter(tables_of, address)
                if letter is None:
                    raise letter_orders.OrderRefused("there is no such letter")
                if kind == "REDRIVE":
                    _refuse_retired(retiring.keep_unretired(platform, letter["platform_run_id"]), letter, address)
                server = server_of(tables_of, address)
                given[address] = letter_orders.order(server, address, kind, by=who, reason=reason, at=now)
                governance.record(
                    platform, governance.Kind.LETTER_ORDERED, subject=str(address), by=who, at=now,
                    detail={"kind": kind, "ordinal": given[address].ordinal, "reason": reason[:200]},
                    platform_run_id=letter["platform_run_id"],
                )  # fmt: skip
        except letter_orders.OrderRefused as refusal:
            before = f"; {len(given)} before it were ordered" if given else "; nothing was ordered"
            raise CommandError(f"letter {address} cannot be {_PAST[kind]}: {refusal}{before}") from refusal
    return given


def _refuse_retired(gone: tuple[datetime, str] | None, letter: Mapping[str, Any], address: LetterAddress) -> None:
    """What the record would be joined with, or known as a repeat by, is deleted: handled now it would be new."""
    from fraud_daemons.state.letter_orders import OrderRefused

    if gone:
        raise OrderRefused(
            f"its run {letter['platform_run_id']} was retired at {iso(gone[0])}: its state was given up after its last"
            f" report, {gone[1]}; to leave it for good: platform deadletters skip {address}"
        )


def _database(profile: Profile, name: str) -> Database:
    from fraud_daemons.bootstrap import operator_database

    return operator_database(profile, "deadletters", name)


def _ended(row: Mapping[str, Any]) -> str:
    return "redriven: its worker took it" if row["state"] == "DONE" else f"failed again: {row['detail']}"


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
    for order in document["orders"]:
        what = f"{order['kind']} by {order['ordered_by']} at {order['ordered_at']}: {order['reason']}; {order['state']}"
        head += f"\n{'order ' + str(order['ordinal']):<16} {what} {order['detail']}".rstrip()
    if document["body"] is None:
        return f"{head}\n\nnot JSON, base64:\n{document['body_base64']}"
    return f"{head}\n\n{orjson.dumps(document['body'], option=orjson.OPT_INDENT_2).decode()}"
