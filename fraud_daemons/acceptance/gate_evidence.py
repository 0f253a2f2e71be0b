"""The gate's evidence of a run - receipts and quarantine records - against its ledger and the run's reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from fraud_daemons.acceptance import sealed_evidence
from fraud_daemons.acceptance.sealed_evidence import anchors
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.state.segments import Segment

FAMILIES: Final = ("ig/receipts", "ig/quarantine")


def verify(ledgers: Mapping[str, Sequence[tuple[Segment, bool]]], store: EvidenceStore, *, run: str) -> dict[str, Any]:
    """The answer of `platform receipts verify`: `ledgers` by family, each in order of its chains."""
    seen = anchors(store, run)
    families = [
        sealed_evidence.verify(
            ledger, store, run=run, family=family, positions=_positions, anchors=seen.get(family, ())
        )
        for family, ledger in ledgers.items()
    ]
    good = all(family["verdict"] == "PASS" for family in families)
    return {"platform_run_id": run, "families": families, "verdict": "PASS" if good else "FAIL"}


def _positions(body: bytes) -> list[int]:
    try:
        return [record["position"] for record in orjson.loads(body)["records"]]
    except (KeyError, TypeError) as error:
        raise ValueError("no document of records with their positions") from error
