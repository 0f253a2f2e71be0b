"""What counts as the incident coming back, line by line: in a worker's JSON log, in PostgreSQL's, in plain text."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from fraud_daemons.observability import events

LITERALS: Final = (
    "psycopg.OperationalError",
    "Address already in use",
    "10048",
    "0x00002740",
    "Cannot assign requested address",
)
"""The words of the incident. 10048 is Windows' EADDRINUSE."""
ERRNOS: Final = (
    errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT,
)  # fmt: skip
FAULT_EVENTS: Final = frozenset(
    {
        events.FAULT_CONTAINED, events.BUG_MET, events.WORKER_HELD, events.RECORD_DEAD_LETTERED, events.REPORT_CONFLICTED,
        events.GOVERNANCE_CONFLICTED,
    }
)  # fmt: skip
SEVERE: Final = frozenset({"ERROR", "FATAL", "PANIC"})

# as a number of its own: ids, times and hashes hold these digits by chance
_NUMBER: Final = re.compile(r"(?<![\w.:+-])(?<!pid )10048(?![\w.:-])")
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


@dataclass(frozen=True)
class Hit:
    """One line that speaks of the incident: the file, what kind of word it was, and the word."""

    file: str
    kind: str
    word: str

    @staticmethod
    def summed(hits: Iterable[Hit]) -> list[str]:
        """One sentence for equal hits."""
        return [
            f"{hit.file}: {hit.kind} {hit.word}{f' ({count} times)' if count > 1 else ''}"
            for hit, count in Counter(hits).items()
        ]


def hits_of_worker(name: str, lines: Sequence[str]) -> list[Hit]:
    """A worker's own log, a JSON object a line: its fault events, errors, and the words in any text."""
    found = []
    for line in lines:
        entry = _object(line)
        if entry is None:
            found += hits_of_text(name, [line])
            continue
        event = str(entry.get("event", ""))
        if event in FAULT_EVENTS:
            what = [str(entry[key]) for key in ("kind", "reason") if entry.get(key)]
            found.append(Hit(name, event, ": ".join(what) or str(entry.get("activity", ""))))
        elif entry.get("level") in ("error", "critical"):
            found.append(Hit(name, "error", event))
        texts = [str(value) for key, value in entry.items() if isinstance(value, str) and key not in ("at", "key")]
        found += hits_of_text(name, texts)
    return found


def hits_of_postgres(name: str, lines: Sequence[str]) -> list[Hit]:
    """PostgreSQL's JSON log: whatever is ERROR or worse, by SQLSTATE, and the words in its messages."""
    found = []
    for line in lines:
        entry = _object(line)
        if entry is None:
            found += hits_of_text(name, [line])
            continue
        if entry.get("error_severity") in SEVERE:
            found.append(Hit(name, "SQLSTATE", f"{entry.get('state_code')} {entry.get('message', '')}"[:160]))
        found += hits_of_text(name, [str(entry.get(key, "")) for key in ("message", "detail", "hint")])
    return found


def hits_of_text(name: str, lines: Iterable[str]) -> list[Hit]:
    """The words of the incident, and the errors of the operating system that it was made of."""
    found = []
    for line in lines:
        found += [Hit(name, "literal", word) for word in LITERALS if word != "10048" and word in line]
        if _NUMBER.search(line):
            found.append(Hit(name, "literal", "10048"))
        found += [
            Hit(name, "errno", errno.errorcode[int(number)]) for number in _ERRNO.findall(line) if int(number) in ERRNOS
        ]
    return found


def _object(line: str) -> dict[str, Any] | None:
    try:
        entry = orjson.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
