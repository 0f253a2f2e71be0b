"""What happened to database sessions between two looks at the servers, told by the servers' own counters and lists.

`opened` counts every session, also one that came and went between two looks; the lists say which are there. A session kept
for good is opened once. One that reached its age is closed and opened again by its owner: a renewal, allowed and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fraud_daemons.acceptance.gates.scene import Servers
from fraud_daemons.config.profiles import Profile
from fraud_daemons.postgres_runtime.provisioning import OPERATOR
from fraud_daemons.state.sessions import ServerSessions, Session

RENEWED_FROM: Final = 0.8
"""The connector renews at 0.8 to 1.0 of the age it is given."""


@dataclass(frozen=True)
class Ages:
    """From which age on the end of a session is a renewal."""

    renewal_seconds: float

    @classmethod
    def of(cls, profile: Profile) -> Ages:
        return cls(RENEWED_FROM * float(profile.get("database.connection_age_seconds_max")))


@dataclass(frozen=True)
class Changes:
    """Between two looks: sessions opened, of them there at the end (`stayed`), renewals, and what is wrong, in words."""

    opened: int
    stayed: int
    renewed: int
    told: list[str]

    @property
    def came_and_went(self) -> int:
        return self.opened - self.stayed


def unseen(looks: Iterable[Servers]) -> list[str]:
    """Servers that hide sessions from us, in words: what happens in those, and how long they stay, nobody can tell."""
    most: Counter[str] = Counter()
    for look in looks:
        for server, seen in look.items():
            most[server] = max(most[server], seen.hidden)
    return [
        f"{server} hides {count} sessions from the operator's role; to look at them: grant pg_read_all_stats to"
        f" {OPERATOR}, as a user who may"
        for server, count in most.items()
        if count
    ]


def between(before: Servers, after: Servers, *, ages: Ages, own: int, seen: Sequence[Servers] = ()) -> Changes:
    """`own` = sessions that the watching process opened meanwhile; `seen` = looks in between, for better words."""
    opened, stayed, renewed = -own, 0, 0
    told: list[str] = []
    for server, last in after.items():
        first = before[server]
        if first.counted_from != last.counted_from:
            told.append(f"{server}: its counters began anew in between (it was restarted, or reset)")
            continue
        known = {session.identity for session in first.sessions}
        fresh = [session for session in last.sessions if session.identity not in known]
        aged = _renewals(first, last, ages)
        opened += last.opened - first.opened
        stayed += len(fresh)
        renewed += sum(aged.values())
        passing = _passing(known | {session.identity for session in fresh}, [look[server] for look in seen])
        for name, count in sorted((Counter(session.name for session in (*fresh, *passing)) - aged).items()):
            told.append(f"{server}: {count} new session{'s' if count > 1 else ''} of {name or 'nobody named'}")
    came_and_went = opened - stayed
    if came_and_went > 0 and not any("new session" in line for line in told):
        told.append(f"{came_and_went} sessions were opened and closed again between two looks")
    return Changes(opened, stayed, renewed, told)


def _renewals(first: ServerSessions, last: ServerSessions, ages: Ages) -> Counter[str]:
    """Sessions that had reached their age and are gone, by name, as far as another of that name came."""
    there = {session.identity for session in last.sessions}
    known = {session.identity for session in first.sessions}
    elapsed = _elapsed(first, last)
    gone = Counter(
        s.name for s in first.sessions if s.identity not in there and s.age_seconds + elapsed >= ages.renewal_seconds
    )
    came = Counter(session.name for session in last.sessions if session.identity not in known)
    return gone & came


def _elapsed(first: ServerSessions, last: ServerSessions) -> float:
    """Seconds between two looks, by the server's clock: how much older those have become that are in both."""
    ages = {session.identity: session.age_seconds for session in first.sessions}
    return max((s.age_seconds - ages[s.identity] for s in last.sessions if s.identity in ages), default=0.0)


def _passing(known: set[tuple[int, str]], looks: Sequence[ServerSessions]) -> list[Session]:
    """Sessions that were seen in between and are in neither of the two looks."""
    found = {s.identity: s for look in looks for s in look.sessions if s.identity not in known}
    return list(found.values())
