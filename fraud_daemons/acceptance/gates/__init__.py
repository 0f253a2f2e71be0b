"""The gates of `platform accept`, one file each, in the order in which they are taken. Each measures on the running
platform and then judges what it measured; `scene` is what they share, `verdicts` what they answer.

A gate that could not be measured has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fraud_daemons.acceptance.gates import (
    connections_bounded,
    environment_conformance,
    gate_20,
    gate_200,
    liveness_idle_hold,
    liveness_post_stream,
    recurrence_scan,
    run_report,
)
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import Finding

Gate = Callable[[Scene], Finding]

GATES: Final[Mapping[str, Gate]] = {
    "gate_20": gate_20.measure,
    "gate_200": gate_200.measure,
    "liveness_post_stream": liveness_post_stream.measure,
    "liveness_idle_hold": liveness_idle_hold.measure,
    "recurrence_scan": recurrence_scan.measure,
    "connections_bounded": connections_bounded.measure,
    "run_report": run_report.measure,
    "environment_conformance": environment_conformance.measure,
}
"""Name -> gate. Names and order are a contract with whoever reads the JSON."""
