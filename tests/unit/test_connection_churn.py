"""How the reproduction of the incident is judged: nothing passes unless the incident was seen first."""

from __future__ import annotations

from typing import Any

import pytest

from fraud_daemons.acceptance.drills.churn import PACKS_OF_THE_INCIDENT, ROWS, judge, verdict_of
from fraud_daemons.acceptance.drills.churn_chart import draw
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ConfigurationError
from tests.system.platform_under_test import ROOT

PASSED = {"gate_20": {"expected": 80, "observed": 80, "verdict": "PASS"},
          "gate_200": {"expected": 800, "observed": 800, "verdict": "PASS"}}  # fmt: skip


def made_row(connector: str, *, containment: bool) -> dict[str, Any]:
    """A row as the drill measures it when everything comes out as it should."""
    collapsed = connector == "per_operation"
    deaths = 40 if collapsed and not containment else 0
    counted = {"operations": 5000, "connects": 3000 if collapsed else 20, "failures": 90 if collapsed else 0}
    sample = {**counted, "time_wait": 2800 if collapsed else 4, "packs_ready": 2 if collapsed else 5, "deaths": deaths}
    return {
        "platform_run_id": "platform_20260101T000000Z",
        "gates": PASSED,
        "marks": {"up": 8.0, "gate_20": 14.0, "gate_200": 20.0, "hold": 80.0},
        "ready_before_hold": 5,
        "ready_after_hold": 2 if collapsed else 5,
        "left_ready": {p: {"at": 45.0, "status": "x", "reason": "y"} for p in PACKS_OF_THE_INCIDENT}
        if collapsed
        else {},
        "system_words": {"online_feature_plane": 20} if collapsed else {},
        "report": {"verdict": "PASS", "equations": 28, "missing": 0, "surplus": 0},
        "samples": [{"at": 19.0, **sample, "packs_ready": 5, "deaths": 0}, {"at": 80.0, **sample}],
    }


@pytest.fixture
def rows() -> dict[str, Any]:
    return {name: made_row(connector, containment=containment) for name, connector, containment in ROWS}


def test_the_incident_and_its_absence_are_a_pass(rows: dict[str, Any]) -> None:
    """Two rows collapse as in the incident, two do not: PASS, and the picture has a panel for each."""
    assert verdict_of(judge(rows)) == "PASS"
    assert draw({"rows": rows, "ports": 2800}).count('class="title"') == len(ROWS)


@pytest.mark.parametrize("pack", PACKS_OF_THE_INCIDENT)
def test_without_the_picture_of_the_incident_nothing_is_proved(rows: dict[str, Any], pack: str) -> None:
    """One of the three packs stayed ready under the old policy: not reproduced, however well the rest went."""
    del rows[ROWS[0][0]]["left_ready"][pack]
    assert verdict_of(judge(rows)) == "not reproduced"


def test_a_collapse_for_another_reason_is_not_the_incident(rows: dict[str, Any]) -> None:
    """Packs left, but nobody met the address fault: not reproduced."""
    rows[ROWS[1][0]]["system_words"] = {}
    assert verdict_of(judge(rows)) == "not reproduced"


def test_a_collapse_before_the_gates_passed_is_not_the_incident(rows: dict[str, Any]) -> None:
    """It came *after* the gates; too few ports for them prove nothing."""
    rows[ROWS[0][0]]["gates"] = {**PASSED, "gate_200": {"expected": 800, "observed": 640, "verdict": "FAIL"}}
    assert verdict_of(judge(rows)) == "not reproduced"


@pytest.mark.parametrize("defect", ["left", "connects", "missing", "died"])
def test_one_fault_of_ours_is_a_fail(rows: dict[str, Any], defect: str) -> None:
    """The incident was reproduced and something of ours went wrong in the same namespace: FAIL."""
    ours = rows[ROWS[3][0]]
    match defect:
        case "left":
            ours["left_ready"] = {"obs_gov": {"at": 30.0, "status": "running waiting", "reason": "z"}}
        case "connects":
            ours["samples"][-1]["connects"] += 40
        case "missing":
            ours["report"] = {**ours["report"], "missing": 1}
        case "died":
            ours["samples"][-1]["deaths"] = 1
    assert verdict_of(judge(rows)) == "FAIL"


@pytest.mark.parametrize("name", ["PLATFORM_INCIDENT_CONNECTOR", "PLATFORM_INCIDENT_CONTAINMENT"])
def test_nobody_but_the_drill_puts_the_incident_back(name: str) -> None:
    """A profile that asks for a part of the incident without the drill is refused before anything starts."""
    value = "per_operation" if name.endswith("CONNECTOR") else "false"
    with pytest.raises(ConfigurationError, match="only the drill connection-churn"):
        load_profile("local_parity", root=ROOT, environment={name: value})
    asked = {name: value, "PLATFORM_INCIDENT_ASKED_BY": "connection-churn"}
    assert load_profile("local_parity", root=ROOT, environment=asked)
