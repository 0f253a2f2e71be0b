"""platform logs: the workers' own JSON logs, their crash text and the substrate's, merged by time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from fraud_daemons.cli.following import FollowedFile, follow
from fraud_daemons.cli.options import Invocation, invocation, targets_argument
from fraud_daemons.config.profiles import Profile

_LEVEL_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "debug": "bright_black"}
_OWN_FIELDS = ("at", "level", "event", "worker", "pack")
_SERVICES = ("postgres", "objectstore", "supervisord")


@click.command()
@targets_argument()
@click.option("-f", "--follow", "keep_following", is_flag=True, help="Show new lines as they come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Lines of each log.")
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], keep_following: bool, lines: int) -> int:
    """Logs of packs, workers, or postgres, objectstore, supervisord (none named: all workers). --json: as written."""
    profile = call.load_profile()
    files = [FollowedFile(path) for path in _paths(call, profile, targets)]
    found = [(file.path, line) for file in files for line in file.tail(lines)]
    for path, line in sorted(found, key=lambda item: _at(item[1])):
        _show(call, path, line)
    if keep_following:
        for path, line in follow(files):
            _show(call, path, line)
    return 0


def _paths(call: Invocation, profile: Profile, targets: tuple[str, ...]) -> Iterable[Path]:
    folder = profile.path("logs")
    workers = tuple(target for target in targets if target not in _SERVICES)
    if workers or not targets:
        for worker in call.deployment().workers(workers):
            yield folder / f"{worker}.log"
            yield folder / f"{worker}.crash.log"
    if "postgres" in targets:
        yield folder / "postgres.crash.log"
        logs = sorted(profile.path("postgres_logs").glob("*.json"), key=lambda path: path.stat().st_mtime)
        yield from logs[-1:]
    if "objectstore" in targets:
        yield folder / "objectstore.crash.log"
    if "supervisord" in targets:
        yield folder / "supervisord.log"


def _parsed(line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _at(line: str) -> str:
    """The time of a line, "" (first) for plain text."""
    record = _parsed(line)
    return str(record.get("at") or str(record.get("timestamp", "")).replace(" ", "T", 1))


def _show(call: Invocation, path: Path, line: str) -> None:
    record = _parsed(line)
    if call.as_json or not record:
        click.echo(line if call.as_json else f"{_source(path):28} {line}")
        return
    level = str(record.get("level") or record.get("error_severity", "")).lower()
    event = str(record.get("event") or record.get("message", ""))
    rest = (
        " ".join(f"{key}={value}" for key, value in record.items() if key not in _OWN_FIELDS)
        if "event" in record
        else ""
    )
    if sys.stdout.isatty():
        event = click.style(event, fg=_LEVEL_COLOURS.get(level), bold=level in ("error", "critical"))
    click.echo(f"{_at(line)[11:23]} {_source(path):28} {level:8} {event}  {rest}".rstrip())


def _source(path: Path) -> str:
    return path.name.removesuffix(".log").removesuffix(".json")
