"""What happened around a run, told by those who saw it: restarts by the supervisor's audit, contained faults by the
workers' own logs, sessions by each server. They inform; only equations decide. Files are read from their ends, so far and no
further, and what was not read is said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from fraud_daemons.clock import iso
from fraud_daemons.config.dsns import PLATFORM_DSN, Server
from fraud_daemons.config.profiles import Profile
from fraud_daemons.observability import events
from fraud_daemons.observability.heartbeat import read_heartbeat
from fraud_daemons.postgres_runtime.connector import ConnectionOf
from fraud_daemons.state import environment

LOG_BYTES_MAX: Final = 2 * 1024 * 1024
AUDIT: Final = "events.ndjson"


def circumstances(
    at: ConnectionOf, servers: Sequence[Server], profile: Profile, run: str, *, now: datetime
) -> dict[str, Any]:
    """`at` = connections by DSN name, `servers` = all that the names lead to. A run lasts until the next one begins."""
    connection = at(PLATFORM_DSN)
    row = connection.execute(
        "select started_at, (select min(started_at) from control.runs n where n.started_at > r.started_at)"
        " from control.runs r where platform_run_id = %s",
        (run,),
    ).fetchone()
    begun, ended = row or (now, None)
    window = iso(begun), iso(ended or now)
    restarts, audit_whole = _restarts(profile.path(AUDIT), window)
    faults, cut = _contained_faults(profile.path("logs"), window)
    sessions = _sessions_opened(at, servers, run)
    return {
        "begun_at": window[0],
        "ended_at": iso(ended) if ended else None,
        "restarts": restarts,
        "restarts_whole": audit_whole,
        "faults_contained": faults,
        "faults_not_read_from_the_beginning": cut,
        "faults_by_heartbeat": _by_heartbeat(profile.path("beats")),
        "sessions_opened": _summed(sessions.values()),
        "sessions_opened_by_server": sessions,
    }


def _restarts(audit: Path, window: tuple[str, str]) -> tuple[dict[str, dict[str, int]], bool]:
    """Worker -> how its processes ended in the window, by cause; what an operator asked for is a cause too."""
    ends: defaultdict[str, Counter[str]] = defaultdict(Counter)
    lines, whole = _tail(audit, since=window[0])
    for record in lines:
        if record.get("kind") in ("exit", "stop", "held") and window[0] <= str(record.get("at")) <= window[1]:
            ends[str(record.get("worker"))][str(record.get("cause"))] += 1
    return {worker: dict(causes) for worker, causes in sorted(ends.items())}, whole


def _contained_faults(logs: Path, window: tuple[str, str]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Worker -> kind and reason -> how often its loop said so in the window; and whose log was not read back that far."""
    found: dict[str, dict[str, int]] = {}
    cut = []
    for path in sorted(logs.glob("*.log")):
        if "." in path.stem or path.stem == "supervisord":  # crash logs are no JSON
            continue
        lines, whole = _tail(path, since=window[0])
        told = Counter(
            f"{record.get('kind', 'bug')}: {record.get('reason') or record.get('activity')}"
            for record in lines
            if record.get("event") in (events.FAULT_CONTAINED, events.BUG_MET, events.WORKER_HELD)
            and window[0] <= str(record.get("at")) <= window[1]
        )
        if told:
            found[path.stem] = dict(told)
        if not whole:
            cut.append(path.stem)
    return found, cut


def _by_heartbeat(beats: Path) -> dict[str, dict[str, int]]:
    """Worker -> faults by kind that its loop has counted since its process began."""
    told = {path.stem: read_heartbeat(path) for path in sorted(beats.glob("*.json"))}
    return {worker: dict(beat.faults) for worker, beat in told.items() if beat is not None and beat.faults}


def _sessions_opened(at: ConnectionOf, servers: Sequence[Server], run: str) -> dict[str, int | None]:
    """Since the run began, by the name of each server; None where nobody noted it, or its counters began anew."""
    row = (
        at(PLATFORM_DSN)
        .execute(
            "select (detail ->> 'sessions')::bigint, detail -> 'sessions_elsewhere' from control.governance"
            " where platform_run_id = %s and kind = 'RUN_STARTED'",
            (run,),
        )
        .fetchone()
    )
    here, elsewhere = row or (None, None)
    begun = {**(elsewhere or {}), PLATFORM_DSN: here}
    names = dict.fromkeys((PLATFORM_DSN, *(server.name for server in servers)))
    return {name: _grown(begun.get(name), environment.sessions_opened(at(name))) for name in names}


def _grown(before: int | None, now: int) -> int | None:
    return None if before is None or now < before else now - before


def _summed(figures: Iterable[int | None]) -> int | None:
    """None when one of them is not known: a sum without it would read as all there were."""
    known = list(figures)
    return None if None in known else sum(figure for figure in known if figure is not None)


def _tail(path: Path, *, since: str) -> tuple[list[dict[str, Any]], bool]:
    """The newest records of a JSON-lines file and the one rotated before it; whether they reach back to `since`."""
    records: list[dict[str, Any]] = []
    for part in (path, path.with_name(path.name + ".1")):
        try:
            with part.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - LOG_BYTES_MAX))
                read = [_record(line) for line in file.read().splitlines()]
        except OSError:
            return records, True  # there is nothing older
        earlier = [record for record in read if record is not None]
        records = earlier + records
        if earlier and str(earlier[0].get("at", "")) <= since:
            return records, True
        if size > LOG_BYTES_MAX:
            return records, False
    return records, True


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except ValueError:  # the first line of a tail is cut
        return None
    return record if isinstance(record, dict) else None
