"""What a person may ask of a case: assign it, add a note, resolve it. The request goes to the case's owner, who alone
writes; this module makes the requests and the timeline entries, and refuses what no owner could do.

A request's id is derived from what is asked, by whom and when, so that the same request twice is one change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fraud_daemons.domain.cases import Disposition, EntryKind, assigned_entry, note_entry, resolved_entry
from fraud_daemons.domain.identity import derived_id

REQUESTED: Final = "CASE_CHANGE_REQUESTED"
CHANGES: Final = (EntryKind.ASSIGNED, EntryKind.NOTE, EntryKind.RESOLVED)
NOTE_CHARACTERS_MAX: Final = 10_000
NAME_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one case as it was asked for. `at` and the flows' times are ISO texts."""

    request_id: str
    platform_run_id: str
    case_id: str
    kind: EntryKind
    actor: str
    at: str
    expected_version: int | None
    assignee: str | None = None
    text: str | None = None
    disposition: Disposition | None = None
    flows: tuple[tuple[str, str], ...] = ()
    """(flow_id, occurred_at) of what a resolution disposes of"""


def request(
    *, platform_run_id: str, case_id: str, kind: EntryKind, actor: str, at: str, expected_version: int | None,
    assignee: str | None = None, text: str | None = None, disposition: str | None = None,
    flows: tuple[tuple[str, str], ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """The body of a request on the `control` topic."""
    what = (str(kind), actor, at, str(expected_version), str(assignee), str(text), str(disposition))
    return {
        "kind": REQUESTED,
        "request_id": derived_id("case_change", platform_run_id, case_id, *what),
        "platform_run_id": platform_run_id,
        "case_id": case_id,
        "change": str(kind),
        "actor": actor,
        "at": at,
        "expected_version": expected_version,
        "assignee": assignee,
        "text": text,
        "disposition": disposition,
        "flows": [{"flow_id": flow_id, "occurred_at": occurred_at} for flow_id, occurred_at in flows],
    }


def change_of(body: Mapping[str, Any]) -> Change:
    """The change that a request asks for. Raises KeyError, TypeError or ValueError when it breaks its contract."""
    kind = EntryKind(body["change"])
    if kind not in CHANGES:
        raise ValueError(f"{kind} is not a change that people make")
    version = body["expected_version"]
    if not isinstance(version, int | None):
        raise TypeError("expected_version must be a whole number or null")
    flows = tuple((_text(flow["flow_id"]), _text(flow["occurred_at"])) for flow in body["flows"])
    return Change(
        request_id=_text(body["request_id"]),
        platform_run_id=_text(body["platform_run_id"]),
        case_id=_text(body["case_id"]),
        kind=kind,
        actor=_text(body["actor"]),
        at=_text(body["at"]),
        expected_version=version,
        assignee=None if body["assignee"] is None else _text(body["assignee"]),
        text=_text(body["text"]) if kind is EntryKind.NOTE else None,
        disposition=Disposition(body["disposition"]) if kind is EntryKind.RESOLVED else None,
        flows=flows,
    )


def entry_of(change: Change, entry: int) -> dict[str, Any]:
    """The timeline entry, and `case_events` record, of a change that was applied as number `entry`."""
    case, run, actor, at = change.case_id, change.platform_run_id, change.actor, change.at
    match change.kind:
        case EntryKind.ASSIGNED:
            return assigned_entry(
                case=case, platform_run_id=run, entry=entry, actor=actor, assignee=change.assignee, at=at
            )
        case EntryKind.NOTE:
            return note_entry(case=case, platform_run_id=run, entry=entry, actor=actor, text=change.text or "", at=at)
        case _:
            flows = [{"flow_id": flow_id, "occurred_at": occurred_at} for flow_id, occurred_at in change.flows]
            disposition = change.disposition or Disposition.INCONCLUSIVE
            return resolved_entry(
                case=case, platform_run_id=run, entry=entry, actor=actor, disposition=disposition, flows=flows, at=at
            )


def _text(value: Any) -> str:
    if not (isinstance(value, str) and value):
        raise ValueError(f"{value!r} must be a text")
    return value
