"""platform keys: who may send what to the gate; issues, rotates and withdraws keys.

A key is shown once, by the command that makes it, and kept as its hash. Those of our own producer and client are never
shown: their place is secrets.json, where both read them again when one is refused. At most two keys of a name are
accepted at a time, so a rotation has an overlap and an end.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli._listing import aligned, jsonable, reading
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock, iso, parse_iso
from fraud_daemons.config.dsns import IG_ADMISSION_DSN
from fraud_daemons.config.secrets_file import FILE_NAME, generate_password, read_secrets, write_secrets
from fraud_daemons.domain.envelope import EVENT_TYPES
from fraud_daemons.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.state.principals import Key

GRACE_SECONDS, GRACE_SECONDS_MAX = 3600, 30 * 86400
FINGERPRINT_DIGITS_MIN = 6
NAME = r"[a-z][a-z0-9_.-]{0,63}"


@click.group()
def command() -> None:
    """Keys of the gate. The gate knows a change within five seconds, without a restart."""


@command.command("list")
@click.argument("name", required=False)
@invocation
def list_command(call: Invocation, *, name: str | None) -> int:
    """Every key by its fingerprint, with scope and end; NAME: of one principal."""
    from fraud_daemons.state import principals

    with reading(call.load_profile(), "keys") as tables_of:
        found = principals.keys(tables_of(IG_ADMISSION_DSN), name)
    if name and not found:
        raise CommandError(f"there is no principal {name!r}; see: platform keys list")
    rows = [(k.name, k.fingerprint, k.state, iso(k.created_at), (k.expires_at and iso(k.expires_at)) or "-",
             ", ".join(k.event_types)) for k in found]  # fmt: skip
    call.answer(
        {"keys": [jsonable(vars(key)) for key in found]},
        text=aligned(("PRINCIPAL", "KEY", "STATE", "SINCE", "ENDS", "MAY SEND"), rows),
    )
    return int(ExitCode.GOOD)


@command.command("issue")
@click.argument("name")
@click.option(
    "--sends", multiple=True, required=True, type=click.Choice(EVENT_TYPES), help="May be given several times."
)
@click.option("--until", default=None, metavar="TIME", help="When it ends by itself; ISO 8601 with an offset or Z.")
@invocation
def issue_command(call: Invocation, *, name: str, sends: tuple[str, ...], until: str | None) -> int:
    """The first key of a new principal; shown once."""
    from fraud_daemons.state import principals

    if not re.fullmatch(NAME, name):
        raise CommandError(f"{name!r} is no name for a principal: it must match {NAME}", exit_code=ExitCode.USAGE)
    ends, now = _time(until), SystemClock().now()
    if ends and ends <= now:
        raise CommandError(f"--until {until} has passed", exit_code=ExitCode.USAGE)
    profile, key = call.load_profile(), generate_password()
    with _writing(profile) as connection:
        if principals.keys(connection, name):
            raise CommandError(f"{name} has keys already; a new one: platform keys rotate {name}")
        principals.add(
            connection, name, key_sha256=principals.key_hash(key), event_types=sends, at=now, expires_at=ends
        )
    return _told(call, profile, name, key, deed="issued", at=now)


@command.command("rotate")
@click.argument("name")
@click.option("--grace-seconds", type=click.IntRange(0, GRACE_SECONDS_MAX), default=GRACE_SECONDS, show_default=True,
              help="How long the key before this one stays accepted.")  # fmt: skip
@invocation
def rotate_command(call: Invocation, *, name: str, grace_seconds: int) -> int:
    """A new key with the scope of the last one. The one before it ends after the grace, older ones now."""
    from fraud_daemons.state import principals

    profile, key, now = call.load_profile(), generate_password(), SystemClock().now()
    digest = principals.key_hash(key)
    with _writing(profile) as connection:
        before = principals.keys(connection, name)
        if not before:
            raise CommandError(f"there is no principal {name!r}; see: platform keys list")
        principals.add(
            connection, name, key_sha256=digest, event_types=_scope(before), at=now, expires_at=None
        )  # fmt: skip
    # known to the gate before its owner has it, and the old one ended only then: whatever is killed between, one works
    _keep(profile, name, key)
    with _writing(profile) as connection:
        kept_until = now + timedelta(seconds=grace_seconds)
        principals.end_older(connection, name, newest_sha256=digest, at=now, kept_until=kept_until)
    return _told(call, profile, name, key, deed="rotated", at=now)


@command.command("withdraw")
@click.argument("name")
@click.argument("fingerprint")
@invocation
def withdraw_command(call: Invocation, *, name: str, fingerprint: str) -> int:
    """A key is accepted no longer, at once. FINGERPRINT is how `keys list` names it, or its first digits."""
    from fraud_daemons.state import principals

    if len(fingerprint) < FINGERPRINT_DIGITS_MIN:
        raise CommandError(f"a fingerprint has at least {FINGERPRINT_DIGITS_MIN} digits", exit_code=ExitCode.USAGE)
    profile, now = call.load_profile(), SystemClock().now()
    secret = _secret_of(name)
    own = read_secrets(profile.run_dir).get("gate", {}).get(secret) if secret else None
    if own and principals.key_hash(own).startswith(fingerprint):
        raise CommandError(
            f"this key of {name} is the one in {FILE_NAME}, and up would make it known again; first: platform keys rotate"
            f" {name} --grace-seconds 0"
        )
    with _writing(profile) as connection:
        ended = principals.withdraw(connection, name, fingerprint)
        if len(ended) > 1:
            raise CommandError(
                f"{fingerprint} begins {len(ended)} keys of {name}; nothing was withdrawn, give more digits"
            )
    if not ended:
        raise CommandError(f"no accepted key of {name!r} begins with {fingerprint}; see: platform keys list {name}")
    _record(profile, name, deed="withdrawn", fingerprint=ended[0], at=now)
    call.answer({"principal": name, "fingerprint": ended[0], "withdrawn_at": iso(now)},
                text=f"{name}: key {ended[0]} is refused from now on")  # fmt: skip
    return int(ExitCode.GOOD)


def _writing(profile: Profile) -> Any:
    """The gate's own tables, as their owner: no worker's or reader's role may make keys known."""
    from fraud_daemons.bootstrap import owner_database

    return owner_database(profile, "keys", IG_ADMISSION_DSN).scope()


def _scope(before: Sequence[Key]) -> tuple[str, ...]:
    """What the last accepted key may send; when none is accepted any more, the last one there was."""
    return next((key for key in before if key.state == "accepted"), before[0]).event_types


def _secret_of(name: str) -> str | None:
    """The name in secrets.json of a principal of our own."""
    from fraud_daemons.state import principals

    return next((secret for secret, of in principals.KEY_OF.items() if of == name), None)


def _keep(profile: Profile, name: str, key: str) -> None:
    """A key of our own goes where its owner reads it."""
    secret = _secret_of(name)
    if secret:
        secrets = read_secrets(profile.run_dir)
        secrets.setdefault("gate", {})[secret] = key
        write_secrets(profile.run_dir, secrets)


def _told(call: Invocation, profile: Profile, name: str, key: str, *, deed: str, at: datetime) -> int:
    """Write the deed down and answer: a key of our own by its place, any other one once, here."""
    from fraud_daemons.state import principals

    fingerprint, secret = principals.key_hash(key)[: principals.FINGERPRINT_DIGITS], _secret_of(name)
    _record(profile, name, deed=deed, fingerprint=fingerprint, at=at)
    document: dict[str, Any] = {"principal": name, "fingerprint": fingerprint, f"{deed}_at": iso(at)}
    if secret:
        document["secret"] = f"gate.{secret}"
        text = f"{name}: key {fingerprint} is accepted; it stands in {FILE_NAME} as gate.{secret}"
    else:
        document["key"] = key
        text = f"{name}: key {fingerprint} is accepted; it is shown this once:\n{key}"
    call.answer(document, text=text)
    return int(ExitCode.GOOD)


def _record(profile: Profile, name: str, *, deed: str, fingerprint: str, at: datetime) -> None:
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import governance
    from fraud_daemons.supervision.waiting import operator_name

    with operator_database(profile, "keys").scope() as connection:
        governance.record(
            connection, governance.Kind.KEY_ROTATED, subject=name, by=operator_name(), at=at,
            detail={"deed": deed, "fingerprint": fingerprint},
        )  # fmt: skip


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_iso(text)
    except ValueError as error:
        raise CommandError(f"--until {text!r} is not ISO 8601 with an offset or Z", exit_code=ExitCode.USAGE) from error
