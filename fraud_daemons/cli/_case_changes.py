"""platform cases assign, note, resolve: what people do with a case, through the one who owns it."""

from __future__ import annotations

import getpass
from functools import partial
from typing import Any

import click

from fraud_daemons.cli._listing import chosen_run, reading, run_option
from fraud_daemons.cli.options import Invocation, invocation, timeout_option
from fraud_daemons.clock import SystemClock, iso, parse_iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.case_changes import NAME_CHARACTERS_MAX, NOTE_CHARACTERS_MAX, request
from fraud_daemons.domain.cases import Disposition, EntryKind
from fraud_daemons.errors import CommandError, ExitCode

_ANSWER_SECONDS = 15


def _changing(function: Any) -> Any:
    """What every change has alike: --actor, --expected-version, --run, --timeout."""
    function = timeout_option(_ANSWER_SECONDS)(run_option(function))
    function = click.option("--expected-version", type=int, default=None, metavar="N",
                            help="Refuse when the case is no longer at this version; default: as it stands now.")(function)  # fmt: skip
    return click.option("--actor", default=None, metavar="NAME", help="Who does it; default: the user's name.")(
        function
    )


@click.command("assign")
@click.argument("case_id")
@click.option("--to", "assignee", default=None, metavar="NAME", help="Who takes it.")
@click.option("--nobody", is_flag=True, help="Put it back into the queue.")
@_changing
@invocation
def assign_command(call: Invocation, *, case_id: str, assignee: str | None, nobody: bool, **common: Any) -> int:
    """Give CASE_ID to somebody, or back to the queue."""
    if (assignee is None) == (not nobody):
        raise click.UsageError("say --to NAME or --nobody")
    if assignee is not None:
        _short(assignee, "--to", NAME_CHARACTERS_MAX)
    return _change(call, case_id, EntryKind.ASSIGNED, at=None, assignee=assignee, **common)


@click.command("note")
@click.argument("case_id")
@click.argument("text")
@_changing
@invocation
def note_command(call: Invocation, *, case_id: str, text: str, **common: Any) -> int:
    """Add TEXT to the timeline of CASE_ID."""
    _short(text, "TEXT", NOTE_CHARACTERS_MAX)
    return _change(call, case_id, EntryKind.NOTE, at=None, text=text, **common)


@click.command("resolve")
@click.argument("case_id")
@click.option("--disposition", type=click.Choice([str(d) for d in Disposition], case_sensitive=False), required=True)
@click.option("--at", "at", default=None, metavar="TIME",
              help="When it became known, for a replayed world: ISO 8601 with an offset or Z; default: now.")  # fmt: skip
@_changing
@invocation
def resolve_command(call: Invocation, *, case_id: str, disposition: str, at: str | None, **common: Any) -> int:
    """Close CASE_ID. FRAUD and LEGIT become a HUMAN label of each of its flows, known from now on."""
    return _change(call, case_id, EntryKind.RESOLVED, at=at, disposition=disposition.upper(), **common)


def _change(
    call: Invocation, case_id: str, kind: EntryKind, *, at: str | None, actor: str | None, expected_version: int | None,
    run: str | None, timeout_seconds: float, **what: Any,
) -> int:  # fmt: skip
    """Ask for one change and print what became of it; 1 when the owner refused."""
    from fraud_daemons.acceptance.asking import Owner, ask
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import case_changes, cases

    profile, clock = call.load_profile(), SystemClock()
    moment = moment_of(at) or iso(clock.now())
    with reading(profile, "cases") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of("CASE_MGMT_LOCATOR")
        case = cases.case_of(connection, chosen, case_id)
        if case is None:
            raise CommandError(f"no case {case_id!r} in run {chosen}; see: platform cases list --run {chosen}")
        flows: tuple[tuple[str, str], ...] = ()
        if kind is EntryKind.RESOLVED:
            named = case_changes.flows_of(connection, chosen, case_id)
            times = case_changes.times_of_flows(tables_of("DF_REPLAY_DSN"), chosen, named)
            flows = tuple((flow, iso(times[flow])) for flow in named if flow in times)
            _not_before(moment, flows)
    version = case["version"] if expected_version is None and kind is not EntryKind.NOTE else expected_version
    body = request(
        platform_run_id=chosen, case_id=case_id, kind=kind, actor=actor_of(actor), at=moment, expected_version=version,
        flows=flows, **what,
    )  # fmt: skip
    owner = Owner("case_management", "CASE_MGMT_LOCATOR", case_changes.answer_to)
    answer = ask(
        body, owner, key=case_id, database_of=partial(operator_database, profile, "cases"), beats=profile.path("beats"), clock=clock,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip
    if not answer.applied:
        raise CommandError(f"case {case_id} was not changed: {answer.detail}", exit_code=ExitCode.NO)
    document = {
        "platform_run_id": chosen,
        "case_id": case_id,
        "change": str(kind),
        "entry": answer.entry,
        "flows": [flow for flow, _ in flows],
    }
    call.answer(document, text=f"case {case_id}: {kind} is entry {answer.entry}")
    return int(ExitCode.GOOD)


def moment_of(text: str | None, *, hint: str = "--at") -> str | None:
    """A time as its one text form. Raises BadParameter."""
    try:
        return None if text is None else iso(parse_iso(text))
    except ValueError as error:
        raise click.BadParameter(f"{error}, e.g. 2018-07-18T12:00:00Z", param_hint=hint) from error


def _not_before(moment: str, flows: tuple[tuple[str, str], ...]) -> None:
    later = [(flow, occurred_at) for flow, occurred_at in flows if occurred_at > moment]
    if later:
        flow, occurred_at = max(later, key=lambda pair: pair[1])
        raise CommandError(
            f"flow {flow} occurred at {occurred_at}, after {moment}: nothing is known before it happened; give a later --at",
            exit_code=ExitCode.USAGE,
        )


def actor_of(name: str | None) -> str:
    """Who it is that changes something. Raises UsageError for a user without a name."""
    if name is None:
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            raise click.UsageError("this user has no name; say --actor NAME") from None
    return _short(name, "--actor", NAME_CHARACTERS_MAX)


def _short(text: str, where: str, characters_max: int) -> str:
    if not text.strip() or len(text) > characters_max or "\0" in text:
        raise click.BadParameter(f"must be a text of 1 to {characters_max} characters", param_hint=where)
    return text
