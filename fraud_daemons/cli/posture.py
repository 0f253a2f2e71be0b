"""platform posture: which posture decisions are made under and who says so; pin one, or release it."""

from __future__ import annotations

import getpass
import os
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli._listing import aligned
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.posture import LADDER
from fraud_daemons.errors import ExitCode

if TYPE_CHECKING:
    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.postgres_runtime.connector import ConnectionOf
    from fraud_daemons.state.postures import Pin

MODES = tuple(str(mode) for mode in LADDER)
PINS_SHOWN = 5


@click.group()
def command() -> None:
    """The posture: what decisions may use. The profile's pin counts first, then the operator's, then the ladder."""


@command.command("show")
@invocation
def show_command(call: Invocation) -> int:
    """The posture in force, who decided so, and the last pins."""
    profile = call.load_profile()
    with _reading(profile) as at:
        document = _document(profile, at)
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD)


@command.command("pin")
@click.argument("mode", type=click.Choice(MODES, case_sensitive=False))
@click.option("--reason", required=True, help="Why; it stays readable in the list of pins.")
@invocation
def pin_command(call: Invocation, *, mode: str, reason: str) -> int:
    """Hold the posture at MODE until it is released; counts from the next batch."""
    return _write(call, mode.upper(), reason)


@command.command("release")
@click.option("--reason", default="released", show_default=True)
@invocation
def release_command(call: Invocation, *, reason: str) -> int:
    """Give the posture back to the degrade ladder."""
    from fraud_daemons.state.postures import RELEASED

    return _write(call, RELEASED, reason)


def _write(call: Invocation, mode: str, reason: str) -> int:
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import postures

    profile = call.load_profile()
    with operator_database(profile, "posture").scope() as connection:
        postures.pin(connection, mode=mode, reason=reason, pinned_by=_operator(), at=SystemClock().now())
    with _reading(profile) as at:
        document = _document(profile, at)
    call.answer(document, text=_text(document))
    if document["decided_by"] == "profile":
        call.tell("the profile's decision.posture_pin counts before this; change it to give the pin effect")
    return int(ExitCode.GOOD)


def _reading(profile: Profile) -> AbstractContextManager[ConnectionOf]:
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.runtime.database import connections

    return connections(partial(operator_database, profile, "posture"))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"uid {os.getuid()}"


def _document(profile: Profile, at: ConnectionOf) -> dict[str, Any]:
    from fraud_daemons.state import postures

    pins = list(postures.pins(at(PLATFORM_DSN), limit=PINS_SHOWN))
    ladder = postures.ladder(at("DL_POSTURE_DSN"))
    in_force = postures.in_force(at)
    profile_pin = profile.get("decision.posture_pin")
    mode, sequence, by = str(in_force.mode), in_force.sequence, "default"
    if profile_pin:
        mode, sequence, by = profile_pin, 0, "profile"
    elif pins and pins[0].mode != postures.RELEASED:
        by = "operator"
    elif ladder is not None:
        by = "ladder"
    step = None
    if ladder is not None:
        posture, reason, stepped_at = ladder
        step = {
            "mode": str(posture.mode),
            "sequence": posture.sequence,
            "reason": reason,
            "stepped_at": iso(stepped_at),
        }
    return {
        "mode": mode,
        "sequence": sequence,
        "decided_by": by,
        "profile_pin": profile_pin or None,
        "ladder": step,
        "pins": [_pin(pin) for pin in pins],
    }


def _pin(pin: Pin) -> dict[str, Any]:
    at: datetime = pin.pinned_at
    return {
        "sequence": pin.sequence,
        "mode": pin.mode,
        "reason": pin.reason,
        "pinned_by": pin.pinned_by,
        "pinned_at": iso(at),
    }


_WORDS = {
    "profile": "pinned by the profile (decision.posture_pin)",
    "operator": "pinned by an operator",
    "ladder": "from the degrade ladder",
    "default": "nobody said otherwise",
}


def _text(document: dict[str, Any]) -> str:
    text = f"{document['mode']} ({document['sequence']})  {_WORDS[document['decided_by']]}"
    if document["ladder"]:
        text += "\nladder  {mode} ({sequence}) since {stepped_at}: {reason}".format(**document["ladder"])
    if document["pins"]:
        rows = [(p["sequence"], p["mode"], p["pinned_at"], p["pinned_by"], p["reason"]) for p in document["pins"]]
        text += "\n\n" + aligned(("PIN", "MODE", "AT", "BY", "REASON"), rows)
    return text
