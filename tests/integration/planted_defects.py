"""One lost and one doubled record, planted in the store that a line's right side is read from.

`PLANTS` has an entry for every line of the run report. Planting happens inside the caller's transaction, which undoes it;
objects are put back. A table's key refuses a true double, so there the doubled row stands under a foreign id; on the bus
and in objects it is the same record twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson

from fraud_daemons.evidence.archive_lines import packed, unpacked
from fraud_daemons.postgres_runtime.connector import Connection

PLANTED: Final = "planted_by_test"
PLANTED_EVENT: Final = "0123456789abcdef" * 2
"""Where an id has to be 32 hex digits."""


@dataclass(frozen=True)
class Objects:
    """The object store as its owner: who may lift the policy may delete."""

    client: Any
    bucket: str

    def keys(self, prefix: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())
        return sorted(entry["Key"] for entry in found)

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        """Leaves a mark above the versions, as any deletion does."""
        with self._unprotected():
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def erase(self, key: str, versions: Sequence[str] | None = None) -> None:
        """These versions, or all of them, marks included, for good."""
        page = self.client.list_object_versions(Bucket=self.bucket, Prefix=key)
        entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        mine = [entry["VersionId"] for entry in entries if entry["Key"] == key]
        with self._unprotected():
            for version in mine if versions is None else versions:
                self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)

    @contextmanager
    def _unprotected(self) -> Iterator[None]:
        policy = self.client.get_bucket_policy(Bucket=self.bucket)["Policy"]
        self.client.delete_bucket_policy(Bucket=self.bucket)
        try:
            yield
        finally:
            self.client.put_bucket_policy(Bucket=self.bucket, Policy=policy)


@dataclass(frozen=True)
class Stores:
    """Where a plant may dig."""

    connection: Connection
    objects: Objects
    run: str


@dataclass(frozen=True)
class Named:
    """What the report has to name."""

    lost: str
    surplus: str | None
    """None where a line looks for nothing surplus"""


Plant = Callable[[Stores], Any]  # a context manager that yields Named


def in_table(table: str, id_of: str, changes: str, *, surplus: str = PLANTED) -> Plant:
    """Delete the first row by `id_of`; insert the last again with `changes`, a jsonb expression over the row r, which
    makes its id `surplus`."""

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        connection, run = stores.connection, {"run": stores.run}
        connection.execute("set local session_replication_role = replica")  # append-only tables refuse this
        mine = f"from {table} r where r.platform_run_id = %(run)s and {id_of} is not null order by {id_of}"
        double = f"insert into {table} select (jsonb_populate_record(r, {changes})).* {mine} desc limit 1"
        connection.execute(double.encode(), run)
        lost = connection.execute(f"select {id_of}, r.ctid::text {mine} limit 1".encode(), run).fetchone()
        assert lost
        gone = connection.execute(f"delete from {table} where ctid = %s::tid".encode(), (lost[1],))
        assert gone.rowcount == 1
        yield Named(lost[0], surplus)

    return plant


def in_topic(topic: str, where: str = "true") -> Plant:
    """Delete a topic's first record; append its last one again."""
    mine = f"from bus.log r where platform_run_id = %(run)s and topic = '{topic}' and {where} order by"
    first = f'select event_id, ctid::text {mine} "partition", "position" limit 1'
    double = (
        "insert into bus.log select (jsonb_populate_record(r, jsonb_build_object('position', \"position\" + 1000000))).*"
        f' {mine} "partition" desc, "position" desc limit 1 returning event_id'
    )

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        surplus = stores.connection.execute(double.encode(), {"run": stores.run}).fetchone()
        lost = stores.connection.execute(first.encode(), {"run": stores.run}).fetchone()
        assert lost
        assert surplus
        stores.connection.execute("delete from bus.log where ctid = %s::tid", (lost[1],))
        yield Named(lost[0], surplus[0])

    return plant


def in_journal() -> Plant:
    """Strike the first traffic id from the producer's journal and write a foreign one in its place."""

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        row = stores.connection.execute(
            "select event_ids[1], ctid::text from wsp.journal where platform_run_id = %s and output = 'traffic' limit 1",
            (stores.run,),
        ).fetchone()
        assert row
        stores.connection.execute("update wsp.journal set event_ids[1] = %s where ctid = %s::tid", (PLANTED, row[1]))
        yield Named(row[0], PLANTED)

    return plant


def in_objects(family: str, field: str) -> Plant:
    """Take the first record out of a family's first object, put the last one of its last object in once more."""

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        before = {key: stores.objects.get(key) for key in stores.objects.keys(f"{stores.run}/{family}/")}
        documents = {key: orjson.loads(body) for key, body in before.items()}
        useful = [key for key, document in documents.items() if any(map(_counts, document["records"]))]
        first, last = documents[useful[0]]["records"], documents[useful[-1]]["records"]
        lost = first.pop(next(n for n, record in enumerate(first) if _counts(record)))
        doubled = next(record for record in reversed(last) if _counts(record))
        last.append(doubled)
        spoiled = {useful[0], useful[-1]}
        for key in spoiled:
            stores.objects.put(key, orjson.dumps(documents[key]))
        try:
            yield Named(lost[field], doubled[field])
        finally:
            for key in spoiled:
                stores.objects.put(key, before[key])

    return plant


def _counts(record: dict[str, Any]) -> bool:
    return record.get("event_type") != "progress_mark"


def in_single_objects(family: str, field: str) -> Plant:
    """Delete the first object of a family that has one for each record, and put the second one a second time."""

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        prefix = f"{stores.run}/{family}/"
        first, last = stores.objects.keys(prefix)[:2]
        before, other = stores.objects.get(first), stores.objects.get(last)
        stores.objects.delete(first)
        stores.objects.put(f"{prefix}zz.json", other)
        try:
            yield Named(orjson.loads(before)[field], orjson.loads(other)[field])
        finally:
            stores.objects.put(first, before)
            stores.objects.delete(f"{prefix}zz.json")

    return plant


def in_archive(topic: str) -> Plant:
    """Take the first line out of a topic's first archive object, put the last one of its last object in once more."""

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        keys = [key for key in stores.objects.keys(f"{stores.run}/archive/") if f"/{topic}-" in key]
        first, last = keys[0], keys[-1]
        before = {key: stores.objects.get(key) for key in (first, last)}
        lines = {key: list(unpacked(body)) for key, body in before.items()}
        lost, doubled = lines[first].pop(0), lines[last][-1]
        lines[last].append(doubled)
        for key in before:
            stores.objects.put(key, packed(lines[key]))
        try:
            yield Named(_place(first, lost), _place(last, doubled))
        finally:
            for key, body in before.items():
                stores.objects.put(key, body)

    return plant


def _place(key: str, line: bytes) -> str:
    topic, partition, _ = key.rpartition("/")[2].split("-", 2)
    document = orjson.loads(line)
    return f"{topic}|{int(partition)}|{document['position']}|{document['event_id']}"


def in_pins() -> Plant:
    """Take away the only pin of an operator, put another in its place: what was decided under it names none."""

    @contextmanager
    def plant(stores: Stores) -> Iterator[Named]:
        row = stores.connection.execute("select mode || ' ' || sequence from control.posture_pins").fetchone()
        assert row
        stores.connection.execute("delete from control.posture_pins")
        stores.connection.execute(
            "insert into control.posture_pins (mode, reason, pinned_by, pinned_at) values ('NORMAL', 'another', 'test', now())"
        )
        yield Named(row[0], None)

    return plant


def _planted(*columns: str) -> str:
    return "jsonb_build_object(" + ", ".join(f"'{column}', '{PLANTED}'" for column in columns) + ")"


_DECIDED_FOR = "convert_from(r.body, 'UTF8')::jsonb ->> 'event_id'"

PLANTS: Final[dict[str, Plant]] = {
    "world_slice_equals_sent": in_journal(),
    "sent_equals_admitted_plus_quarantined": in_table(
        "ig.admissions",
        "case when r.event_type <> 'progress_mark' then r.event_id end",
        f"jsonb_build_object('event_id', '{PLANTED_EVENT}')",
        surplus=PLANTED_EVENT,
    ),
    "admitted_equals_published": in_topic("traffic", "record_key not like 'mark-%%'"),
    "admitted_equals_receipts": in_objects("ig/receipts", "event_id"),
    "quarantined_equals_quarantine_objects": in_objects("ig/quarantine", "quarantine_id"),
    "admitted_traffic_equals_bound": in_table("csfb.bindings", "r.event_id", _planted("event_id", "flow_id")),
    "admitted_context_equals_frames_and_anchors": in_table(
        "csfb.anchors", "r.event_id", _planted("flow_id", "event_id")
    ),
    "bound_equals_published": in_topic("flows.bound"),
    "bound_equals_featured": in_table("ofp.snapshots", "r.flow_id", _planted("flow_id")),
    "featured_equals_published": in_topic("flows.featured"),
    "labels_equal_applied": in_table("ofp.labels", "r.label_id", _planted("label_id")),
    "bound_equals_graph_applied": in_table("ieg.applied", "r.flow_id", _planted("flow_id")),
    "published_equals_archived": in_archive("flows.bound"),
    "admitted_traffic_equals_decided": in_table(
        "df.decisions",
        _DECIDED_FOR,
        f"{_planted('flow_id', 'decision_id')} || jsonb_build_object('body',"
        f" convert_to(replace(convert_from(r.body, 'UTF8'), {_DECIDED_FOR}, '{PLANTED}'), 'UTF8')::text)",
    ),
    "decided_equals_published": in_topic("decisions"),
    "deciding_policies_equal_published": in_table("df.policies", "r.digest", _planted("digest")),
    "decided_under_known_postures": in_pins(),
    "intents_equal_outcomes": in_table("al.outcomes", "r.intent_id", _planted("intent_id")),
    "outcomes_equal_published": in_topic("action_outcomes"),
    "decided_equals_audit_chains": in_table("dla.chains", "r.decision_id", _planted("chain_id", "decision_id")),
    "audit_chains_equal_audit_objects": in_objects("dla/audit", "chain_id"),
    "alerts_equal_triggers": in_table("case_trigger.triggers", "r.source_id", _planted("trigger_id", "source_id")),
    "triggers_equal_published": in_topic("case_triggers"),
    "triggers_equal_opened_plus_merged": in_table(
        "case_mgmt.timeline",
        "r.body ->> 'trigger_id'",
        f"jsonb_build_object('entry', 999, 'body', jsonb_set(r.body, '{{trigger_id}}', '\"{PLANTED}\"'))",
    ),
    "truth_equals_labels": in_table(
        "label_store.assertions",
        "case when r.source = 'EXTERNAL' and r.source_ref not like 'asserted:%%' then r.source_event_id end",
        _planted("label_id", "source_event_id"),
    ),
    "labels_equal_published": in_topic("labels", "convert_from(body, 'UTF8')::jsonb ? 'label_id'"),
    "dispositions_equal_human_labels": in_table(
        "label_store.assertions",
        "case when r.source = 'HUMAN' and r.source_ref not like 'asserted:%%' then r.source_ref || '|' || r.flow_id end",
        _planted("label_id", "source_ref", "flow_id"),
        surplus=f"{PLANTED}|{PLANTED}",
    ),
    "assertions_equal_asserted_labels": in_table(
        "label_store.assertions",
        "case when r.source_ref like 'asserted:%%' then r.source_event_id end",
        _planted("label_id", "source_event_id"),
    ),
    "reports_equal_report_objects": in_single_objects("obs/run_report", "request_id"),
    "governance_events_equal_objects": in_single_objects("gov", "event_id"),
}
"""Line -> the defect in the stage on its right."""
