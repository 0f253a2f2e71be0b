"""platform events: the audit of starts, stops and restarts - when, what, why, by whom."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from fraud_daemons.cli.following import FollowedFile, follow
from fraud_daemons.cli.options import Invocation, invocation, targets_argument

_COLOURS = {"exit": "red", "restart": "yellow", "start": "green", "stop": "bright_black"}


@click.command()
@targets_argument()
@click.option("-f", "--follow", "keep_following", is_flag=True, help="Show new records as they come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Records to show.")
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], keep_following: bool, lines: int) -> int:
    """Every start, stop and death with its cause: operator, exit code, signal, configuration. --json: one list."""
    file = FollowedFile(call.load_profile().path("events.ndjson"))
    read = [json.loads(line) for line in file.tail(100_000) if line.endswith("}")]
    records = [record for record in read if _wanted(record, targets)][-lines:] if lines else []
    call.answer({"events": records}, text="\n".join(_line(record) for record in records) or "no events yet")
    if keep_following:
        for _, line in follow([file]):
            record = json.loads(line)
            if _wanted(record, targets):
                call.answer(record, text=_line(record))
    return 0


def _wanted(record: dict[str, Any], targets: tuple[str, ...]) -> bool:
    return not targets or record["worker"] in targets or record["pack"] in targets


def _line(record: dict[str, Any]) -> str:
    kind = f"{record['kind']:8}"
    if sys.stdout.isatty():
        kind = click.style(kind, fg=_COLOURS.get(record["kind"]))
    words = [f"pid {record['pid']}" if record["pid"] else "", _cause(record), _figures(record)]
    said = f"  | {record['last_log_lines'][-1]}" if record.get("last_log_lines") and record["kind"] == "exit" else ""
    return f"{record['at'][:23]}Z  {record['worker']:28} {kind} {'  '.join(w for w in words if w)}{said}"


def _cause(record: dict[str, Any]) -> str:
    match record["cause"]:
        case "operator":
            return f"operator {record.get('operator', '')} ({record.get('action', record['kind'])})"
        case "signal":
            return f"signal {record['signal']}" if "signal" in record else "after a signal"
        case "exit_code":
            return f"exit code {record['exit_code']}" if "exit_code" in record else "after an exit"
        case "configuration":
            return "configuration: held until platform resume"
        case "lost":
            ended = ", ".join(record.get("ended", []))
            return "vanished without a word" + (f"; up ended what it left: {ended}" if ended else "")
        case cause:
            return str(cause)


def _figures(record: dict[str, Any]) -> str:
    figures = []
    if "uptime_seconds" in record:
        figures.append(f"up {record['uptime_seconds']:.1f} s")
    if "drain_seconds" in record:
        figures.append(f"drained in {record['drain_seconds']:.1f} of {record['drain_seconds_max']} s")
    if record["restarts"] and record["kind"] == "restart":
        figures.append(f"restart {record['restarts']}")
    return ", ".join(figures)
