"""What must be true of the gate's tables and the bus whenever no request is under way."""

from __future__ import annotations

from fraud_daemons.domain.envelope import OUTPUTS
from tests.line import Line


def check_nothing_is_in_flight(line: Line) -> None:
    """Rows and records are the same set, both ways, and every row says PUBLISHED with its place."""
    torn = line.sql(
        "select a.event_id, l.event_id from ig.admissions a full join (select * from bus.log where topic = any(%s)) l"
        ' on (l.topic, l."partition", l."position", l.event_id) = (a.topic, a."partition", a."position", a.event_id)'
        " where (a.event_id is null and l.record_key not like 'mark-%%') or l.event_id is null",
        ([*OUTPUTS, "truth"],),
    )
    assert torn == []
    assert line.sql("select count(*) from ig.admissions where publish_state <> 'PUBLISHED'") == [(0,)]
    refused = line.sql(
        "select q.quarantine_id, l.event_id from ig.quarantine q full join"
        " (select event_id from bus.log where topic = 'quarantine') l on l.event_id = q.quarantine_id"
        " where q.quarantine_id is null or l.event_id is null"
    )
    assert refused == []


def rows(line: Line) -> int:
    return int(line.sql("select (select count(*) from ig.admissions) + (select count(*) from ig.quarantine)")[0][0])
