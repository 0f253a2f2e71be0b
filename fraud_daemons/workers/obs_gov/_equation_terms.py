"""What a line of the run report is made of: conservation equations over sets of ids, each side from another store.

A line compares two multisets of ids both ways: `missing` is on the left and not on the right, `surplus` the other way
round; one lost and one doubled never cancel. Each side is something a stranger can ask without our code: the SQL, or
the listing, stands here and is printed into docs/EQUATIONS.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """A side read from tables: `dsn` names the server, `sql` gives one id per row for %(run)s."""

    what: str
    dsn: str
    sql: str


@dataclass(frozen=True)
class Objects:
    """A side read from evidence objects below `<run>/<family>/`: field `field` of each of their records.

    Progress marks are left out: they are admitted once and appended to every partition.
    """

    what: str
    family: str
    field: str


@dataclass(frozen=True)
class Archived:
    """A side read from the archive's objects below `<run>/archive/`: topic|partition|position|event id of each line."""

    what: str


@dataclass(frozen=True)
class WorldSlice:
    """A side read from the sealed worlds: ids of the events up to the producer's cursors."""

    what: str


@dataclass(frozen=True)
class Either:
    """A side whose ids stand in one or another of several tables, each asked on its own server."""

    what: str
    of: tuple[Query, ...]


Side = Query | Objects | Archived | WorldSlice | Either


@dataclass(frozen=True)
class Letters:
    """Losses that dead letters of several workers explain, each asked on its worker's own server. `renamed` gives
    (id in the letter, id in the equation) where a letter goes by another id."""

    what: str
    of: tuple[Query, ...]
    renamed: Query | None = None


@dataclass(frozen=True)
class Line:
    """One equation. `letters` = ids whose loss is explained by a dead letter, a named term of its own. `subset` = the
    right is a register of what may be named and holds more than one run names: then only `missing` is looked for."""

    name: str
    left: Side
    right: Side
    letters: Query | Letters | None = None
    subset: bool = False


def log_ids(what: str, topic: str) -> Query:
    """Event ids of a topic, as the bus holds them."""
    return Query(
        what, "EVENT_BUS_DSN", f"select event_id from bus.log where platform_run_id = %(run)s and topic = '{topic}'"
    )


def letters(dsn: str, worker: str, topic: str) -> Query:
    """Ids that `worker` set aside from `topic`: a loss that is explained."""
    return Query(
        f"dead letters of {worker}",
        dsn,
        "select event_id from dead_letters.letters where platform_run_id = %(run)s and state <> 'REDRIVEN'"
        f" and worker = '{worker}' and topic = '{topic}'",
    )


ADMITTED = "select event_id from ig.admissions where platform_run_id = %(run)s"
"""Ids that the gate admitted; more conditions may follow."""
