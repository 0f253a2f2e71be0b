"""What a line of the run report is made of: conservation equations over sets of ids, each side from another store.

A line compares two multisets of ids both ways: `missing` is on the left and not on the right, `surplus` the other way
round; one lost and one doubled never cancel. Each side is something a stranger can ask without our code: the SQL, or
the listing, stands here and is printed into docs/EQUATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from fraud_daemons.domain.envelope import MARK_KEYS
from fraud_daemons.evidence.archive_lines import ArchivedRecord
from fraud_daemons.state.admissions import OF_RUN

_BODY: Final = "convert_from(body, 'UTF8')::jsonb"
_PLACE: Final = "topic || '|' || \"partition\" || '|' || \"position\" || '|' || event_id"


@dataclass(frozen=True)
class Query:
    """A side read from tables: `dsn` names the server, `sql` gives one id per row for %(run)s."""

    what: str
    dsn: str
    sql: str


@dataclass(frozen=True)
class Only:
    """Of `topic` only records whose body has `field`, with one of `values` where any are given."""

    topic: str
    field: str
    values: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        has = f"->> '{self.field}' in ({_listed(self.values)})" if self.values else f"? '{self.field}'"
        return f"(topic = '{self.topic}' and {_BODY} {has})"

    def holds(self, topic: str, body: Mapping[str, Any]) -> bool:
        return topic == self.topic and (body.get(self.field) in self.values if self.values else self.field in body)


@dataclass(frozen=True)
class Logged:
    """A side read from the bus; what was trimmed of it is read from the archive's objects, as far as they still are what
    was trimmed: `bus.trimmed` has the hash over the ids of each deleted range.

    `topics` = () for every topic but `control`, where the request for the report itself flows; `only` = any of these,
    `marks` = progress marks too. A side gives `field` of the body, or topic|partition|position|id with `places`, else the id.
    """

    what: str
    topics: tuple[str, ...] = ()
    only: tuple[Only, ...] = ()
    marks: bool = True
    places: bool = False
    field: str = ""
    dsn: str = "EVENT_BUS_DSN"

    @property
    def sql(self) -> str:
        """What is on the bus."""
        shape = f"{_BODY} ->> '{self.field}'" if self.field else _PLACE if self.places else "event_id"
        unmarked = "" if self.marks else f" and record_key not like '{MARK_KEYS}%%'"
        chosen = f" and ({' or '.join(each.sql for each in self.only)})" if self.only else ""
        return f"select {shape} from bus.log where {self._of_run}{unmarked}{chosen}"

    @property
    def trimmed_sql(self) -> str:
        """The ranges that are not there any more."""
        return (
            'select topic, "partition", first_position, last_position, ids_sha256 from bus.trimmed'
            f" where {self._of_run}"
        )

    def counts(self, topic: str, record: ArchivedRecord) -> bool:
        """What the SQL says, of an archived record."""
        if not self.marks and record.key.startswith(MARK_KEYS):
            return False
        if not self.only:
            return True
        body = orjson.loads(record.body)
        return any(each.holds(topic, body) for each in self.only)

    def id_of(self, topic: str, partition: int, record: ArchivedRecord) -> str:
        """What the SQL gives, of an archived record."""
        if self.field:
            return str(orjson.loads(record.body)[self.field])
        return f"{topic}|{partition}|{record.position}|{record.event_id}" if self.places else record.event_id

    @property
    def _of_run(self) -> str:
        chosen = f"topic in ({_listed(self.topics)})" if self.topics else "topic <> 'control'"
        return f"platform_run_id = %(run)s and {chosen}"


@dataclass(frozen=True)
class Objects:
    """A side read from evidence objects below `<run>/<family>/`: field `field` of each of their records.

    Admitted progress marks are left out: they are admitted once and appended to every partition. A refused one counts.
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


Side = Query | Logged | Objects | Archived | WorldSlice | Either


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


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def log_ids(what: str, topic: str) -> Logged:
    """Event ids of a topic, as the bus holds them or held them."""
    return Logged(what, (topic,))


def letters(dsn: str, worker: str, topic: str) -> Query:
    """Ids that `worker` set aside from `topic`: a loss that is explained."""
    return Query(
        f"dead letters of {worker}",
        dsn,
        "select event_id from dead_letters.letters where platform_run_id = %(run)s and state <> 'REDRIVEN'"
        f" and worker = '{worker}' and topic = '{topic}'",
    )


ADMITTED = f"select event_id from ig.admissions where {OF_RUN}"
"""Ids that the gate admitted; more conditions may follow."""
