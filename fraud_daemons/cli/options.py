"""What every command has: --json, --profile, --root; how it answers; names of packs and workers for completion.

@click.command()
@invocation
def command(call: Invocation) -> int:
    profile = call.load_profile()
    call.answer({"n": 1}, text="one")
    return 0
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.config.profiles import DEFAULT_PROFILE, Profile, find_root, load_profile

if TYPE_CHECKING:
    from fraud_daemons.supervision.deployment import Deployment

PROFILE_VARIABLE = "PLATFORM_PROFILE"


@dataclass
class Invocation:
    """One call of a command: where it works and how it answers."""

    as_json: bool
    profile_name: str
    root_given: Path | None

    @cached_property
    def root(self) -> Path:
        """The project's folder. Raises ConfigurationError when there is none."""
        return self.root_given.resolve() if self.root_given else find_root(Path.cwd())

    def load_profile(self, **overrides: Any) -> Profile:
        """The profile, from file, environment and `overrides` ("section.key": value). Raises ConfigurationError."""
        return load_profile(self.profile_name, root=self.root, environment=os.environ, overrides=overrides)

    def deployment(self) -> Deployment:
        """The profile's packs and how their workers are started. Raises ConfigurationError."""
        from fraud_daemons.supervision.deployment import deployment_of

        return deployment_of(self.load_profile())

    def answer(self, document: Any, *, text: str | None = None) -> None:
        """The command's result: one JSON object with --json, else the text."""
        if self.as_json:
            click.echo(json.dumps(document))
        elif text:
            click.echo(text)

    def tell(self, text: str) -> None:
        """Progress for a person, on stderr; silent with --json."""
        if not self.as_json:
            click.echo(click.style(f"  {text}", dim=True) if sys.stderr.isatty() else f"  {text}", err=True)


def _global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--root", type=click.Path(file_okay=False, exists=True, path_type=Path), default=None,
                     help="Project folder; default: the nearest above with packs/ and config/profiles/."),
        click.option("--profile", "profile_name", default=None, shell_complete=_complete_profile,
                     help=f"Profile; default: ${PROFILE_VARIABLE}, then {DEFAULT_PROFILE}."),
        click.option("--json", "as_json", is_flag=True, default=None, help="One JSON object on stdout."),
    ):  # fmt: skip
        function = option(function)
    return function


def remember_group_options(function: Callable[..., None]) -> Callable[..., Any]:
    """For the group itself: `platform --profile x status` means the same as `platform status --profile x`."""

    def group(context: click.Context, **options: Any) -> None:
        context.obj = options
        function()

    return _global_options(click.pass_context(functools.update_wrapper(group, function)))


def invocation(function: Callable[..., int | None]) -> Callable[..., Any]:
    """Gives a command the three options, as its first argument `call: Invocation`."""

    def command(
        context: click.Context, *, as_json: bool | None, profile_name: str | None, root: Path | None, **rest: Any
    ) -> int | None:
        before = context.find_root().obj or {}
        call = Invocation(
            as_json=bool(as_json or before.get("as_json")),
            profile_name=profile_name
            or before.get("profile_name")
            or os.environ.get(PROFILE_VARIABLE)
            or DEFAULT_PROFILE,
            root_given=root or before.get("root"),
        )
        return function(call, **rest)

    return _global_options(click.pass_context(functools.update_wrapper(command, function)))


def targets_argument(name: str = "targets", *, required: bool = False) -> Callable[..., Any]:
    """The argument [PACK|WORKER…], with shell completion."""
    return click.argument(
        name, nargs=-1, required=required, shell_complete=_complete_target, metavar="[PACK|WORKER]..."
    )


def timeout_option(default: float) -> Callable[..., Any]:
    """--timeout in seconds."""
    return click.option("--timeout", "timeout_seconds", type=click.FloatRange(min=1), default=default, show_default=True,
                        metavar="S", help="Seconds to wait at most.")  # fmt: skip


def _complete_target(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    names: list[str] = []
    for path in sorted((find_root(Path.cwd()) / "packs").glob("*.toml")):
        names += [path.stem, *tomllib.loads(path.read_text()).get("workers", [])]
    return [name for name in names if name.startswith(incomplete)]


def _complete_profile(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    names = [path.stem for path in (find_root(Path.cwd()) / "config" / "profiles").glob("*.toml")]
    return sorted(name for name in names if name.startswith(incomplete))
