"""The lines of the run report, in the order of the flow; each pack's lines are in a file of their own."""

from __future__ import annotations

from typing import Final

from fraud_daemons.workers.obs_gov import (
    _equations_case_labels,
    _equations_control_ingress,
    _equations_decision_lane,
    _equations_obs_gov,
    _equations_rtdl_core,
)
from fraud_daemons.workers.obs_gov._equation_terms import Line

LINES: Final[tuple[Line, ...]] = (
    *_equations_control_ingress.LINES,
    *_equations_rtdl_core.LINES,
    *_equations_decision_lane.LINES,
    *_equations_case_labels.LINES,
    *_equations_obs_gov.LINES,
)
