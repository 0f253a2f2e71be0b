"""One cause behind many workers is one incident: when it began, whom it touched, when it was over - kept in the audit.

Whoever looks at the heartbeats says how each worker is; this puts it together and writes a few records per incident:
`began`, `spread` when it touches more, `lasting` when it lasts longer than patience should be silent, `ended`. What is open
survives its supervisor: the next one reads it from the audit and goes on. It refuses to act on anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from fraud_daemons.clock import Clock, iso, parse_iso

DATABASE: Final = "postgres"
SHARED: Final = (DATABASE, "object store", "bus", "disk")
"""What many workers stand on; a reason that names one of these is that one cause, whoever reports it."""
PACK: Final = "incident"  # in the audit, where other records have their pack
QUIET_SECONDS: Final = 3.0  # over when nobody was touched for this long: who comes back may fail once more
UNSEEN_SECONDS_MAX: Final = 60.0  # a worker that is dead or starting stays touched for this long
SPREAD_INTERVAL_SECONDS: Final = 2.0
REASONS_MAX: Final = 8
BEGAN_BEFORE_SECONDS_MAX: Final = 60.0  # a beat's own idea of its age is believed up to here

_SHARED_IN: Final = re.compile(rf"(?:^|: )({'|'.join(SHARED)}): ")


@dataclass(frozen=True)
class Trouble:
    """Why a worker is not well, and for how long by its own account."""

    cause: str
    reason: str
    seconds: float
    waits: bool = False
    """It holds its place and will go on by itself."""


Condition = Trouble | Literal["well", "gone", "unseen"]
"""`gone`: nobody wants it to run. `unseen`: dead, starting or silent, so that nothing new is known."""


def cause_of(worker: str, reason: str) -> str:
    """What a reason blames: something shared, or else the worker's own trouble."""
    shared = _SHARED_IN.search(reason)
    return shared.group(1) if shared else worker


@dataclass
class Incident:
    """One cause while it lasts."""

    cause: str
    began_at: str
    began_monotonic: float
    reasons: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    present: dict[str, float] = field(default_factory=dict)
    """Who is touched now -> when that was last seen, monotonic."""
    told_monotonic: float = 0.0
    told_workers: int = 0
    told_lasting: bool = False
    over_monotonic: float | None = None
    over_at: str = ""

    @property
    def name(self) -> str:
        return f"{self.cause} {self.began_at}"

    def touch(self, worker: str, reason: str, now: float) -> None:
        self.present[worker] = now
        self.over_monotonic = None
        if worker not in self.touched:
            self.touched.append(worker)
        if reason not in self.reasons and len(self.reasons) < REASONS_MAX:
            self.reasons.append(reason)

    def leave(self, worker: str, condition: Condition, now: float) -> None:
        """Take `worker` out unless nothing is known of it, and that not for too long."""
        if condition != "unseen" or now - self.present[worker] > UNSEEN_SECONDS_MAX:
            del self.present[worker]


class Incidents:
    """All incidents that are open, by cause; `write` appends a record to the audit."""

    def __init__(
        self,
        write: Callable[[dict[str, Any]], None],
        *,
        clock: Clock,
        patience_seconds: float,
        earlier: Iterable[dict[str, Any]] = (),
    ) -> None:
        self._write = write
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._open: dict[str, Incident] = {}
        self._restore(earlier)

    def look(self, conditions: Mapping[str, Condition], *, last: bool = False) -> None:
        """Take in how every worker is now; `last`: nobody will look again, so what is over ends at once."""
        now = self._clock.monotonic()
        for worker, condition in conditions.items():
            own = condition.cause if isinstance(condition, Trouble) else None
            for cause, incident in self._open.items():
                if cause != own and worker in incident.present:
                    incident.leave(worker, condition, now)
            if isinstance(condition, Trouble):
                incident = self._open.get(condition.cause) or self._begin(condition, now)
                incident.touch(worker, condition.reason, now)
        for incident in list(self._open.values()):
            for worker in [w for w in incident.present if w not in conditions]:
                del incident.present[worker]
            self._tell(incident, now, quiet_seconds=0.0 if last else QUIET_SECONDS)

    def _begin(self, trouble: Trouble, now: float) -> Incident:
        age = min(max(trouble.seconds, 0.0), BEGAN_BEFORE_SECONDS_MAX)
        began_at = iso(self._clock.now() - timedelta(seconds=age))
        incident = self._open[trouble.cause] = Incident(trouble.cause, began_at, now - age)
        return incident

    def _tell(self, incident: Incident, now: float, *, quiet_seconds: float) -> None:
        """Write what has changed about an incident since the last record."""
        grown = len(incident.touched) > incident.told_workers
        if not incident.present:
            if incident.over_monotonic is None:
                incident.over_monotonic, incident.over_at = now, iso(self._clock.now())
            if now - incident.over_monotonic >= quiet_seconds:
                del self._open[incident.cause]
                self._record(incident, "ended", now)
        elif incident.told_workers == 0:
            self._record(incident, "began", now)
        elif not incident.told_lasting and now - incident.began_monotonic >= self._patience_seconds:
            incident.told_lasting = True
            self._record(incident, "lasting", now)
        elif grown and now - incident.told_monotonic >= SPREAD_INTERVAL_SECONDS:
            self._record(incident, "spread", now)

    def _record(self, incident: Incident, phase: str, now: float) -> None:
        incident.told_monotonic, incident.told_workers = now, len(incident.touched)
        until = incident.over_monotonic if phase == "ended" and incident.over_monotonic is not None else now
        record = {
            "at": iso(self._clock.now()),
            "worker": incident.cause,
            "pack": PACK,
            "kind": "incident",
            "cause": incident.reasons[0] if incident.reasons else incident.cause,
            "pid": 0,
            "restarts": 0,
            "phase": phase,
            "incident": incident.name,
            "began_at": incident.began_at,
            "ended_at": incident.over_at if phase == "ended" else None,
            "seconds": round(max(0.0, until - incident.began_monotonic), 3),
            "reasons": incident.reasons,
            "workers": incident.touched,
        }
        self._write(record)

    def _restore(self, earlier: Iterable[dict[str, Any]]) -> None:
        """Take up what an earlier supervisor left open; whom it touched counts as touched until seen otherwise."""
        unended = [r for r in folded(earlier) if r.get("kind") == "incident" and r["phase"] != "ended"]
        now = self._clock.monotonic()
        for record in unended:
            age = max(0.0, (self._clock.now() - parse_iso(record["began_at"])).total_seconds())
            self._open[record["worker"]] = Incident(
                record["worker"],
                record["began_at"],
                now - age,
                reasons=list(record["reasons"]),
                touched=list(record["workers"]),
                present=dict.fromkeys(record["workers"], now),
                told_monotonic=now,
                told_workers=len(record["workers"]),
                told_lasting=record["lasting"],
            )


def folded(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Audit records with each incident as ONE: where it began stands its newest record, with when it was noticed."""
    kept: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for record in records:
        name = record.get("incident") if record.get("kind") == "incident" else None
        if name is None:
            kept.append(record)
        elif name in places:
            first = kept[places[name]]
            lasting = first.get("lasting", False) or record["phase"] == "lasting"
            kept[places[name]] = {**record, "at": first["at"], "lasting": lasting}
        else:
            places[name] = len(kept)
            kept.append({**record, "lasting": record["phase"] == "lasting"})
    return kept
