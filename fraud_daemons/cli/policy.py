"""platform policy: the policies at hand and which decides; everything that is wrong with one; activate one."""

from __future__ import annotations

import getpass
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli._listing import aligned, jsonable, next_page, page_options, with_footer
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.config.policy_check import Problem
    from fraud_daemons.config.profiles import Profile
    from fraud_daemons.state.policies import Activation


@click.group()
def command() -> None:
    """Policies: the rules decisions are made by. The newest activation counts, before the profile's decision.policy."""


@command.command("list")
@page_options("SEQUENCE", default=10)
@invocation
def list_command(call: Invocation, *, limit: int, after: str | None) -> int:
    """The policies of config/policies, which one decides, and the activations, newest first."""
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.state import policies

    if after is not None and not after.isdigit():
        raise CommandError(f"--after {after!r}: the sequence number of an activation is a whole number")
    profile = call.load_profile()
    with operator_database(profile, "policy", PLATFORM_DSN).scope() as connection:
        newest = policies.newest(connection)
        rows = policies.listing(connection, limit=limit, before=int(after) if after else None)
    more = next_page(rows, str(rows[-1].sequence) if rows else None, limit=limit)
    files = _files(profile, newest)
    document = {
        "decides": newest.name if newest else profile.get("decision.policy"),
        "by": "activation" if newest else "profile",
        "digest": newest.digest if newest else next((f["digest"] for f in files if f["decides"]), None),
        "policies": files,
        "activations": [jsonable(asdict(row)) for row in rows],
        "next": more,
    }
    call.answer(document, text=with_footer(_text(document), more))
    return int(ExitCode.GOOD)


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@invocation
def check_command(call: Invocation, *, file: Path) -> int:
    """Everything that is wrong with a policy, each with rule and line. 1 when there is anything."""
    policy, problems = _checked(file)
    document: dict[str, Any] = {"file": str(file), "ok": policy is not None, "problems": [asdict(p) for p in problems]}
    if policy is not None:
        document |= {**policy.identity(), "rules": len(policy.rules)}
        text = f"{file}: good; {policy.policy_id} revision {policy.revision}, {len(policy.rules)} rules, {policy.digest[:16]}"
    else:
        text = "\n".join(f"{file}: {problem}" for problem in problems)
    call.answer(document, text=text)
    return int(ExitCode.GOOD if policy is not None else ExitCode.NO)


@command.command("activate")
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stays readable in the list of activations.")
@invocation
def activate_command(call: Invocation, *, name: str, reason: str) -> int:
    """Decide by the policy NAME of config/policies from the next batch on. Checked first; refused as a whole."""
    from fraud_daemons.bootstrap import operator_database
    from fraud_daemons.config.policies import policies_folder
    from fraud_daemons.state import policies

    profile = call.load_profile()
    known = sorted(path.stem for path in policies_folder(profile.root).glob("*.toml"))
    if name not in known:
        raise CommandError(f"there is no policy {name!r} in config/policies; known: {', '.join(known) or 'none'}")
    file = policies_folder(profile.root) / f"{name}.toml"
    text = _read(file)
    policy, problems = _checked(file, text)
    if policy is None:
        raise CommandError(
            f"policy {name} is refused, nothing was changed: {problems[0]}"
            + (f" (and {len(problems) - 1} more; platform policy check {file})" if len(problems) > 1 else "")
        )
    with operator_database(profile, "policy", PLATFORM_DSN).scope() as connection:
        newest = policies.newest(connection)
        repeated = newest is not None and (newest.name, newest.digest) == (name, policy.digest)
        activation = (
            newest
            if newest is not None and repeated
            else policies.activate(
                connection, policy, text, name=name, reason=reason, by=_operator(), at=SystemClock().now()
            )
        )
    document = {**jsonable(asdict(activation)), **policy.identity(), "already_active": repeated}
    words = "decides already" if repeated else "decides from the next batch on"
    call.answer(
        document,
        text=f"{name} {words}: revision {policy.revision}, {policy.digest[:16]}, activation {activation.sequence}",
    )
    return int(ExitCode.GOOD)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not valid TOML: {error}") from error
    except OSError as error:
        raise CommandError(f"{file}: cannot be read: {error.strerror}") from error


def _checked(file: Path, text: str | None = None) -> tuple[Any, list[Problem]]:
    from fraud_daemons.config.policy_check import checked

    return checked(_read(file) if text is None else text, source=str(file))


def _files(profile: Profile, newest: Activation | None) -> list[dict[str, Any]]:
    """Every policy file; one with problems says the first."""
    from fraud_daemons.config.policies import policies_folder, read_policy

    found = []
    for path in sorted(policies_folder(profile.root).glob("*.toml")):
        read = partial(read_policy, profile.root, path.stem)
        row: dict[str, Any] = {"name": path.stem, "policy_id": None, "revision": None, "digest": None, "problem": None}
        try:
            row |= read().identity()
        except ConfigurationError as error:
            row["problem"] = error.problems[0]
        decides = newest.digest == row["digest"] if newest else path.stem == profile.get("decision.policy")
        found.append({**row, "decides": decides})
    return found


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"uid {os.getuid()}"


def _text(document: dict[str, Any]) -> str:
    rows = [
        ("*" if p["decides"] else "", p["name"], p["revision"], (p["digest"] or "")[:16], p["problem"])
        for p in document["policies"]
    ]
    text = f"decides: {document['decides']} ({document['by']})\n\n" + aligned(
        ("", "POLICY", "REVISION", "DIGEST", "PROBLEM"), rows
    )
    if document["activations"]:
        lines = [
            (a["sequence"], a["name"], a["digest"][:16], a["activated_at"], a["activated_by"], a["reason"])
            for a in document["activations"]
        ]
        text += "\n\n" + aligned(("ACTIVATION", "POLICY", "DIGEST", "AT", "BY", "REASON"), lines)
    return text
