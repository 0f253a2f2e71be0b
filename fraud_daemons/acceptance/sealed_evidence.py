"""Holds one family of sealed evidence of a run against its ledger, both ways, byte for byte: what is promised is there and
unchanged, what is there was promised, each object holds the range of its row, each segment names the hash of the one before
it, and the chain ends where the run's reports say that it ended. Every object that is changed, gone, made up or written over
is named. It changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from fraud_daemons.errors import CommandError, FatalFault
from fraud_daemons.evidence.keys import UNPINNED, report_prefix
from fraud_daemons.evidence.port import EvidenceStore, ObjectVersion
from fraud_daemons.state.segments import Segment

DEVIATIONS_MAX: Final = 100
"""Named at most; all are counted."""

Positions = Callable[[bytes], Sequence[int]]
"""The positions of the records in an object, in its order. Raises ValueError when the bytes are no object of the family."""

Place = tuple[str, int]
"""Topic and partition: one chain."""


@dataclass(frozen=True)
class Anchor:
    """What a run report says of a chain: how many segments it had when the report was made, and the last one's hash."""

    report: str
    topic: str
    partition: int
    segments: int
    sha256: str


def anchors(store: EvidenceStore, run: str) -> dict[str, list[Anchor]]:
    """By family, every chain's end that a report of the run saw. Raises CommandError for a report that is none."""
    found: dict[str, list[Anchor]] = {}
    for report in store.list(report_prefix(run)):
        try:
            for end in orjson.loads(store.get(report.key)).get("anchors", ()):
                seen = Anchor(report.key, end["topic"], end["partition"], end["segments"], end["sha256"])
                found.setdefault(end["family"], []).append(seen)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CommandError(f"{report.key} is no run report ({error}); see: platform report") from error
    return found


def verify(
    ledger: Sequence[tuple[Segment, bool]],
    store: EvidenceStore,
    *,
    run: str,
    family: str,
    positions: Positions,
    anchors: Sequence[Anchor] = (),
) -> dict[str, Any]:
    """The answer of `platform receipts verify` and `archive verify`: `ledger` = (segment, whether its put is known) in order."""
    versions = _by_key(store.versions(f"{run or UNPINNED}/{family}/"))
    deviations: list[tuple[str, str]] = []
    waiting = 0
    for segment, complete in ledger:
        found = versions.get(segment.object_key, [])
        if not found and not complete:
            waiting += 1
            continue
        deviations += ((segment.object_key, what) for what in _wrong(segment, found, store, positions))
    promised = {segment.object_key for segment, _ in ledger}
    deviations += ((key, "no row of the ledger names it") for key in sorted(versions.keys() - promised))
    deviations += _out_of_order(ledger)
    deviations += _off_anchor(ledger, anchors)
    return {
        "platform_run_id": run,
        "family": family,
        "segments": len(ledger),
        "objects": len(versions),
        "records": sum(segment.records for segment, _ in ledger),
        "waiting": waiting,
        "anchors": len(anchors),
        "deviations": len(deviations),
        "examples": [{"object": key, "what": what} for key, what in deviations[:DEVIATIONS_MAX]],
        "verdict": "FAIL" if deviations else "PASS",
    }


def _by_key(found: Iterator[ObjectVersion]) -> dict[str, list[ObjectVersion]]:
    versions: dict[str, list[ObjectVersion]] = {}
    for version in found:
        versions.setdefault(version.key, []).append(version)
    return versions


def _wrong(
    segment: Segment, versions: Sequence[ObjectVersion], store: EvidenceStore, positions: Positions
) -> Iterator[str]:
    """What is wrong with the object of a segment. An older version with the right bytes is named: nothing is lost."""
    if not versions:
        yield "the ledger says it was put, and it is not there"
        return
    if any(version.deleted for version in versions):
        yield f"it was deleted{_still_kept(segment, versions, store)}"
        return
    if len(versions) > 1:
        yield f"it was written over: {len(versions)} versions{_still_kept(segment, versions, store)}"
    try:
        body = store.get(segment.object_key)
    except FatalFault:
        yield "it was listed and cannot be read"
        return
    found = hashlib.sha256(body).hexdigest()
    if found != segment.sha256:
        yield f"its sha256 is {found}, the ledger says {segment.sha256}"
        return
    yield from _out_of_range(segment, body, positions)


def _still_kept(segment: Segment, versions: Sequence[ObjectVersion], store: EvidenceStore) -> str:
    """Where the bytes that the ledger promises still are."""
    for version in versions:
        if version.deleted:
            continue
        body = store.get_version(segment.object_key, version.version)
        if hashlib.sha256(body).hexdigest() == segment.sha256:
            return f"; version {version.version} of {version.put_at} has the right bytes"
    return "; none of its versions has the right bytes"


def _out_of_range(segment: Segment, body: bytes, positions: Positions) -> Iterator[str]:
    try:
        held = positions(body)
    except ValueError as error:
        yield f"it cannot be read as {segment.family}: {error}"
        return
    expected = (segment.records, segment.first_position, segment.last_position)
    if (len(held), held[0], held[-1]) != expected or list(held) != sorted(set(held)):
        yield f"it holds {len(held)} records {held[0]}..{held[-1]}, not the range of its row in order"


def _out_of_order(ledger: Sequence[tuple[Segment, bool]]) -> Iterator[tuple[str, str]]:
    """Segments that overlap the one before, or do not name its hash."""
    before: dict[Place, Segment] = {}
    for segment, _ in ledger:
        where = (segment.topic, segment.partition)
        last = before.get(where)
        if last is not None and segment.first_position <= last.last_position:
            yield segment.object_key, f"its range begins within that of {last.object_key}"
        if segment.previous_sha256 != (last.sha256 if last else ""):
            yield (
                segment.object_key,
                "it does not name the hash of the segment before it: one is missing or was changed",
            )
        before[where] = segment


def _off_anchor(ledger: Sequence[tuple[Segment, bool]], anchors: Sequence[Anchor]) -> Iterator[tuple[str, str]]:
    """Chains that no longer hold what a report saw: rows taken away or changed together with their objects."""
    chains: Mapping[Place, list[Segment]] = _chains(ledger)
    for anchor in anchors:
        chain = chains.get((anchor.topic, anchor.partition), [])
        named = f"{anchor.topic}/{anchor.partition}"
        if len(chain) < anchor.segments:
            yield named, f"report {anchor.report} saw {anchor.segments} segments, the ledger has {len(chain)}"
        elif chain[anchor.segments - 1].sha256 != anchor.sha256:
            seen = chain[anchor.segments - 1]
            yield (
                seen.object_key,
                f"report {anchor.report} saw sha256 {anchor.sha256} here, the ledger says {seen.sha256}",
            )


def _chains(ledger: Sequence[tuple[Segment, bool]]) -> dict[Place, list[Segment]]:
    chains: dict[Place, list[Segment]] = {}
    for segment, _ in ledger:
        chains.setdefault((segment.topic, segment.partition), []).append(segment)
    return chains
