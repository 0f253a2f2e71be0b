"""platform events: the audit of starts, stops, restarts and incidents - when, what, why, by whom, and whom it touched."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import click

from fraud_daemons.cli.following import FollowedFile, follow
from fraud_daemons.cli.options import Invocation, invocation, targets_argument
from fraud_daemons.status.picture import age_text
from fraud_daemons.supervision.incidents import folded

WIDTH_ELSEWHERE = 160
WORDS_SHOWN_MIN = 20
_COLOURS = {
    "exit": "red",
    "restart": "yellow",
    "start": "green",
    "stop": "bright_black",
    "held": "magenta",
    "incident": "yellow",
}
NAMES_SHOWN_MAX = 4


@click.command()
@targets_argument()
@click.option("-f", "--follow", "keep_following", is_flag=True, help="Show new records as they come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Records to show.")
@click.option("-v", "--verbose", is_flag=True, help="Every last word in full, beneath its record.")
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], keep_following: bool, lines: int, verbose: bool) -> int:
    """Every start, stop and death with its cause: operator, exit code, signal, watchdog, configuration; and each outage as
    one incident with its beginning, its end and whom it touched. --json: one list."""
    line = _in_full if verbose else _one_line
    file = FollowedFile(call.load_profile().path("events.ndjson"))
    read = [json.loads(line) for line in file.tail(100_000) if line.endswith("}")]
    records = [record for record in folded(read) if _wanted(record, targets)][-lines:] if lines else []
    call.answer({"events": records}, text="\n".join(line(record) for record in records) or "no events yet")
    if keep_following:
        for _, written in follow([file]):
            record = json.loads(written)
            if _wanted(record, targets):
                call.answer(record, text=line(record))
    return 0


def _wanted(record: dict[str, Any], targets: tuple[str, ...]) -> bool:
    touched = {record["worker"], record["pack"], *record.get("workers", ())}
    return not targets or not touched.isdisjoint(targets)


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
    if record["kind"] == "incident":
        words = [_incident(record)]
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
        case "watchdog":
            silent = f": no beat for {record['beat_age_seconds']:.0f} s" if "beat_age_seconds" in record else ""
            return f"watchdog{silent}" if record["kind"] == "exit" else "after the watchdog"
        case "deaths":
            return f"{record['reason']}; held until platform resume"
        case "configuration":
            return "configuration: held until platform resume"
        case "lost":
            ended = ", ".join(record.get("ended", []))
            return "vanished without a word" + (f"; up ended what it left: {ended}" if ended else "")
        case cause:
            return str(cause)


def _incident(record: dict[str, Any]) -> str:
    """What is to blame, whom it touches, since when and until when."""
    names, reasons = record["workers"], [reason.removeprefix(f"{record['worker']}: ") for reason in record["reasons"]]
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    who = f"{', '.join(names[:NAMES_SHOWN_MAX])}{more}"
    how_many = f"{len(names)} worker{'s' if len(names) != 1 else ''}"
    since = f"from {record['began_at'][11:19]}Z"
    if record["phase"] == "ended":
        when = f"{since} to {record['ended_at'][11:19]}Z, {age_text(record['seconds'])}"
    else:
        when = f"{since}, {age_text(record['seconds'])} when last noted, not over"
    return f"{', '.join(reasons)}: {how_many}, {when} - {who}"


def _figures(record: dict[str, Any]) -> str:
    figures = []
    if "uptime_seconds" in record:
        figures.append(f"up {record['uptime_seconds']:.1f} s")
    if "drain_seconds" in record:
        figures.append(f"drained in {record['drain_seconds']:.1f} of {record['drain_seconds_max']} s")
    if "not_counted" in record:
        figures.append(f"not counted ({record['not_counted']})")
    if record["restarts"] and record["kind"] == "restart":
        figures.append(f"restart {record['restarts']}")
    return ", ".join(figures)
