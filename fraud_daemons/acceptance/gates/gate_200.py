"""Gate-200: 4 outputs x 200 events, behind what the run has."""

from __future__ import annotations

from fraud_daemons.acceptance.gates import _stream
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding

EVENTS, RUN_TOTAL = 200, 220


def measure(scene: Scene) -> Finding:
    """200 of each output admitted once; with them every stage holds 220 transactions of the run."""
    return _stream.measure(scene, gate="gate_200", events=EVENTS, run_total=RUN_TOTAL)
