"""platform events: the audit of starts, stops and restarts - when, what, why, by whom."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import click

from fraud_daemons.cli.following import FollowedFile, follow
from fraud_daemons.cli.options import Invocation, invocation, targets_argument

WIDTH_ELSEWHERE = 160
WORDS_SHOWN_MIN = 20
_COLOURS = {"exit": "red", "restart": "yellow", "start": "green", "stop": "bright_black"}


@click.command()
@targets_argument()
@click.option("-f", "--follow", "keep_following", is_flag=True, help="Show new records as they come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Records to show.")
@click.option("-v", "--verbose", is_flag=True, help="Every last word in full, beneath its record.")
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], keep_following: bool, lines: int, verbose: bool) -> int:
    """Every start, stop and death with its cause: operator, exit code, signal, configuration. --json: one list."""
    line = _in_full if verbose else _one_line
    file = FollowedFile(call.load_profile().path("events.ndjson"))
    read = [json.loads(line) for line in file.tail(100_000) if line.endswith("}")]
    records = [record for record in read if _wanted(record, targets)][-lines:] if lines else []
    call.answer({"events": records}, text="\n".join(line(record) for record in records) or "no events yet")
    if keep_following:
        for _, written in follow([file]):
            record = json.loads(written)
            if _wanted(record, targets):
                call.answer(record, text=line(record))
    return 0


def _wanted(record: dict[str, Any], targets: tuple[str, ...]) -> bool:
    return not targets or record["worker"] in targets or record["pack"] in targets


def _one_line(record: dict[str, Any]) -> str:
    """The record, and of a death's last words what the terminal's width leaves room for."""
    fact = _fact(record)
    said = _last_words(record)
    if not said:
        return _painted(fact, record)
    room = max(_width() - len(fact) - len("  | "), WORDS_SHOWN_MIN)
    return _painted(f"{fact}  | {_cut(said[-1], room)}", record)


def _in_full(record: dict[str, Any]) -> str:
    return "\n".join([_painted(_fact(record), record), *(f"    | {line}" for line in _last_words(record))])


def _fact(record: dict[str, Any]) -> str:
    words = [f"pid {record['pid']}" if record["pid"] else "", _cause(record), _figures(record)]
    return f"{record['at'][:23]}Z  {record['worker']:28} {record['kind']:8} {'  '.join(w for w in words if w)}"


def _painted(line: str, record: dict[str, Any]) -> str:
    kind = f" {record['kind']:8} "
    return line.replace(kind, click.style(kind, fg=_COLOURS.get(record["kind"])), 1) if sys.stdout.isatty() else line


def _last_words(record: dict[str, Any]) -> list[str]:
    return list(record.get("last_log_lines", ())) if record["kind"] == "exit" else []


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _width() -> int:
    """The terminal's width; a fixed one elsewhere, so that a file has the same lines whoever writes it."""
    return shutil.get_terminal_size((WIDTH_ELSEWHERE, 0)).columns if sys.stdout.isatty() else WIDTH_ELSEWHERE


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
