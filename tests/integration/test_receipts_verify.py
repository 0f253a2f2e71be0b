"""platform receipts verify: one flipped byte, one deleted, one overwritten, one made-up object, and a chain cut short together
with its ledger are each named; a good run has none. Each test leaves the run as it found it, so they share one."""

from __future__ import annotations

from typing import Any

from fraud_daemons.acceptance import archive, gate_evidence
from fraud_daemons.state import segments
from tests.integration.planted_defects import Objects
from tests.line import Line


def verified(line: Line) -> dict[str, Any]:
    """What the command answers."""
    with line.database.scope() as connection:
        ledgers = {name: segments.of_run(connection, "ig", name, line.run) for name in gate_evidence.FAMILIES}
    return gate_evidence.verify(ledgers, line.make_store(), run=line.run)


def named(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """(object, what) of every deviation."""
    return [(found["object"], found["what"]) for family in answer["families"] for found in family["examples"]]


def restore(line: Line, objects: Objects, key: str) -> None:
    """Leave exactly one version with the first bytes, so that the next test begins with a good run."""
    versions = [found.version for found in line.make_store().versions(key) if found.key == key]
    objects.erase(key, versions[:-1])


def receipt_keys(line: Line, objects: Objects) -> list[str]:
    return objects.keys(f"{line.run}/ig/receipts/")


def test_a_good_run_agrees_and_its_report_anchors_every_chain(finished: Line) -> None:
    """Ledger, objects and the report's anchors hold together for receipts, quarantine and archive."""
    answer = verified(finished)
    assert (answer["verdict"], named(answer)) == ("PASS", [])
    by_family = {family["family"]: family for family in answer["families"]}
    assert by_family["ig/receipts"]["records"] > 400
    assert by_family["ig/quarantine"]["records"] == 3
    assert all(family["anchors"] for family in answer["families"])
    with finished.database.scope() as connection:
        ledger = segments.of_run(connection, "archive", archive.FAMILY, finished.run)
    found = archive.verify(ledger, finished.make_store(), run=finished.run)
    assert (found["verdict"], found["examples"]) == ("PASS", [])
    assert found["anchors"]


def test_a_flipped_byte_is_an_overwrite_and_the_first_version_is_named(finished: Line, objects: Objects) -> None:
    """Other bytes under a key can only be another version: the object is named, and which version is right."""
    key = receipt_keys(finished, objects)[1]
    good = objects.get(key)
    middle = len(good) // 2
    objects.put(key, good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    try:
        answer = verified(finished)
    finally:
        restore(finished, objects, key)
    assert answer["verdict"] == "FAIL"
    assert {name for name, _ in named(answer)} == {key}
    said = " ".join(what for _, what in named(answer))
    assert "2 versions; version " in said
    assert "has the right bytes" in said
    assert "its sha256 is" in said
    assert verified(finished)["verdict"] == "PASS"


def test_an_overwrite_with_the_same_bytes_is_named(finished: Line, objects: Objects) -> None:
    """Nothing is lost by it, and it did not come from us."""
    key = receipt_keys(finished, objects)[0]
    objects.put(key, objects.get(key))
    try:
        [(name, what)] = named(verified(finished))
    finally:
        restore(finished, objects, key)
    assert (name, "written over" in what) == (key, True)


def test_a_deleted_object_is_named_with_its_kept_version(finished: Line, objects: Objects) -> None:
    """A deletion by the store's owner leaves a mark and the version below it."""
    key = receipt_keys(finished, objects)[-1]
    objects.delete(key)
    try:
        [(name, what)] = named(verified(finished))
    finally:
        restore(finished, objects, key)
    assert name == key
    assert what.startswith("it was deleted; version ")


def test_an_object_that_is_gone_is_named(finished: Line, objects: Objects) -> None:
    """With every version of it: only the ledger remembers it."""
    key = receipt_keys(finished, objects)[0]
    good = objects.get(key)
    objects.erase(key)
    try:
        [(name, what)] = named(verified(finished))
    finally:
        objects.put(key, good)
    assert (name, what) == (key, "the ledger says it was put, and it is not there")
    assert verified(finished)["verdict"] == "PASS"


def test_a_made_up_object_is_named(finished: Line, objects: Objects) -> None:
    """An object that no row of the ledger names."""
    key = f"{finished.run}/ig/receipts/traffic-000-made-up.json"
    objects.put(key, b"{}")
    try:
        [(name, what)] = named(verified(finished))
    finally:
        objects.erase(key)
    assert (name, what) == (key, "no row of the ledger names it")


def test_a_chain_cut_short_with_its_ledger_differs_from_the_report(finished: Line, objects: Objects) -> None:
    """Whoever takes the last object and its row away leaves a chain that is whole, and shorter than the report saw."""
    with finished.database.scope() as connection:
        ledger = segments.of_run(connection, "ig", "ig/receipts", finished.run)
    last = [segment for segment, _ in ledger if segment.topic == "traffic"][-1]
    where = "where family = 'ig/receipts' and object_key = %s"
    good = objects.get(last.object_key)
    columns = 'family, topic, "partition", first_position, platform_run_id'
    finished.sql(f"create table ig.put_aside as select * from ig.segments {where}", (last.object_key,))
    finished.sql(f"delete from ig.segments {where}", (last.object_key,))
    objects.erase(last.object_key)
    try:
        found = named(verified(finished))
    finally:
        objects.put(last.object_key, good)
        finished.sql(f"insert into ig.segments select * from ig.put_aside on conflict ({columns}) do nothing")
        finished.sql("drop table ig.put_aside")
    assert {name for name, _ in found} == {f"{last.topic}/{last.partition}"}, "each report saw it"
    assert all("the ledger has" in what for _, what in found)
    assert verified(finished)["verdict"] == "PASS"


def test_a_segment_that_names_another_predecessor_is_named(finished: Line) -> None:
    """The chain itself: a row whose link was changed in the ledger is named, and so are its object's bytes."""
    with finished.database.scope() as connection:
        ledger = segments.of_run(connection, "ig", "ig/receipts", finished.run)
    first, second = [segment for segment, _ in ledger if segment.topic == "traffic"][:2]
    link = "update ig.segments set previous_sha256 = %s where object_key = %s"
    finished.sql(link, ("0" * 64, second.object_key))
    try:
        found = named(verified(finished))
    finally:
        finished.sql(link, (first.sha256, second.object_key))
    assert [name for name, _ in found] == [second.object_key]
    assert "does not name the hash of the segment before it" in found[0][1]
