"""`connection-churn`: the incident, reproduced with the same packs and workers, then shown to be gone.

Four rows in a network namespace with few ephemeral ports and no reuse of TIME_WAIT: a connection per operation and the
shared connector, each with and without containment in the loop. The first row must show the picture of the incident -
both gates pass, *then* three packs leave `running ready` with the address fault - or nothing is proved: the verdict is
`not reproduced`, never PASS. The shared connector must then pass everything in the very same namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from fraud_daemons.acceptance.drills import namespace
from fraud_daemons.acceptance.drills.conductor import keep, refuse_unmarked
from fraud_daemons.clock import SystemClock, iso
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode

NAME: Final = "connection-churn"
DOES: Final = "the incident: a connection per operation on few ports, then the shared connector on the same ports"
HOLD_SECONDS: Final = 60.0
PORTS: Final = 2800
"""Between what the gates leave in TIME_WAIT (1,600 measured) and what idle workers alone keep there (70 a second for 60 s)."""
PORT_LOW: Final = 58_000
ROW_SECONDS_MAX: Final = 600
ROWS: Final = (
    ("per operation, no containment", "per_operation", False),
    ("per operation, contained", "per_operation", True),
    ("shared, no containment", "shared", False),
    ("shared, contained", "shared", True),
)
"""Name, connector, containment."""
PACKS_OF_THE_INCIDENT: Final = ("rtdl_core", "decision_lane", "case_labels")
STEADY_CONNECTS_MAX: Final = 2
"""What may connect anew in the hold with the shared connector: a connection that has reached its age."""
THE_SEED: Final = {
    "platform_run_id": "platform_20260210T083021Z",
    "gates": "80 of 80 and 800 of 800 PASS",
    "after": "rtdl_core, decision_lane and case_labels stopped, obs_gov alone stayed up",
    "fault": "psycopg.OperationalError: Address already in use (10048 / 0x00002740)",
}


def reproduce(
    profile: Profile, *, seed: int, hold_seconds: float | None, ports: int = PORTS, tell: Callable[[str], None]
) -> dict[str, Any]:
    """All rows and the verdict: PASS, FAIL or `not reproduced`. Raises ConfigurationError or CommandError when it cannot
    run here."""
    refuse_unmarked(profile, NAME)
    if lacking := namespace.lacking():
        raise CommandError(
            f"drill {NAME} cannot run here: it needs {lacking}; nothing was tried", exit_code=ExitCode.UNKNOWN
        )
    began = iso(SystemClock().now())
    hold = HOLD_SECONDS if hold_seconds is None else hold_seconds
    rows = {}
    for name, connector, containment in ROWS:
        tell(f"{name}: up, Gate-20, Gate-200, {hold:g} s hold")
        rows[name] = _row(
            profile, {"connector": connector, "containment": containment, "hold_seconds": hold, "ports": ports}
        )
        tell(_summary(rows[name]))
    checks = judge(rows)
    document = {
        "drill": NAME,
        "seed": seed,
        "at": began,
        "ports": ports,
        "hold_seconds": hold,
        "the_seed": THE_SEED,
        "rows": rows,
        "checks": checks,
        "verdict": verdict_of(checks),
    }
    keep(profile, document)
    return document


def _row(profile: Profile, plan: Mapping[str, Any]) -> dict[str, Any]:
    where = {"profile": profile.name, "root": str(profile.root), "port_low": PORT_LOW}
    with namespace.network_namespace(f"fpchurn{os.getpid()}") as inside:
        command = [*inside, sys.executable, "-m", "fraud_daemons.acceptance.drills.churn_row"]
        done = subprocess.run(
            command, input=json.dumps({**plan, **where}), capture_output=True, text=True, timeout=ROW_SECONDS_MAX,
            check=False,
        )  # fmt: skip
    if done.returncode:
        raise CommandError(f"drill {NAME}: a row did not come to its end: {done.stderr.strip()[-600:]}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def _summary(row: Mapping[str, Any]) -> str:
    gates = ", ".join(f"{name} {gate['observed']}/{gate['expected']}" for name, gate in row["gates"].items())
    left = ", ".join(f"{pack} at {what['at']:.0f} s ({what['reason']})" for pack, what in row["left_ready"].items())
    last = row["samples"][-1]
    return f"{gates}; connects {last['connects']}, failures {last['failures']}; left running ready: {left or 'none'}"


def judge(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every check of every row: {row, check, expected, observed, good}. A row of the old policy is good when it fails as
    the incident did."""
    checks: list[dict[str, Any]] = []
    for name, connector, containment in ROWS:
        row = rows[name]
        found = [_line(name, gate, what["expected"], what["observed"], what["verdict"] == "PASS")
                 for gate, what in row["gates"].items()]  # fmt: skip
        found.append(_line(name, "ready_before_hold", 5, row["ready_before_hold"], row["ready_before_hold"] >= 5))
        if connector == "per_operation":
            found += _as_in_the_incident(name, row, containment=containment)
        else:
            found += _as_it_must_be(name, row)
        checks += found
    return checks


def _as_in_the_incident(name: str, row: Mapping[str, Any], *, containment: bool) -> list[dict[str, Any]]:
    left = sorted(set(row["left_ready"]) & set(PACKS_OF_THE_INCIDENT))
    words = sum(row["system_words"].values())
    found = [
        _line(name, "packs_left_ready", list(PACKS_OF_THE_INCIDENT), left, len(left) == len(PACKS_OF_THE_INCIDENT)),
        _line(name, "address_fault_in_logs", "> 0", words, words > 0),
    ]
    deaths = row["samples"][-1]["deaths"]
    if containment:
        return [*found, _line(name, "processes_died", 0, deaths, deaths == 0)]
    return [*found, _line(name, "processes_died", "> 0", deaths, deaths > 0)]


def _as_it_must_be(name: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    report, left = row["report"], sorted(row["left_ready"])
    before = [sample for sample in row["samples"] if sample["at"] <= row["marks"]["gate_200"]]
    last = row["samples"][-1]
    anew = last["connects"] - (before[-1]["connects"] if before else 0)
    return [
        _line(name, "packs_left_ready", [], left, not left),
        _line(name, "address_fault_in_logs", 0, sum(row["system_words"].values()), not row["system_words"]),
        _line(name, "processes_died", 0, last["deaths"], last["deaths"] == 0),
        _line(name, "connects_in_the_hold", f"<= {STEADY_CONNECTS_MAX}", anew, anew <= STEADY_CONNECTS_MAX),
        _line(name, "equations", "PASS, 0 missing, 0 surplus",
              f"{report['verdict']}, {report['missing']} missing, {report['surplus']} surplus",
              report["verdict"] == "PASS" and not report["missing"] and not report["surplus"]),
    ]  # fmt: skip


def _line(row: str, check: str, expected: Any, observed: Any, good: bool) -> dict[str, Any]:
    return {"row": row, "check": check, "expected": expected, "observed": observed, "good": bool(good)}


def verdict_of(checks: list[dict[str, Any]]) -> str:
    """`not reproduced` before anything else: without the incident nothing that follows proves a thing."""
    old = {name for name, connector, _ in ROWS if connector == "per_operation"}
    if not all(check["good"] for check in checks if check["row"] in old):
        return "not reproduced"
    return "PASS" if all(check["good"] for check in checks) else "FAIL"


def render(document: Mapping[str, Any]) -> str:
    """For a person: one block per row, one line per check."""
    lines = [f"drill {NAME}  {document['ports']} ports, hold {document['hold_seconds']:g} s"]
    for name, row in document["rows"].items():
        lines += ["", f"{name}  {row['platform_run_id']}", f"  {_summary(row)}"]
        lines += [
            f"  {'ok  ' if check['good'] else 'FAIL'} {check['check']:<24} {check['observed']}"
            for check in document["checks"]
            if check["row"] == name
        ]
    return "\n".join([*lines, "", f"verdict  {document['verdict']}"])
