"""platform accept: green on a good platform, and each gate red by the defect that is meant for it and by no other."""

from __future__ import annotations

import io
import json
from typing import Any

import boto3
import pytest

from fraud_daemons.acceptance.gates import GATES
from fraud_daemons.acceptance.sequence import accept, open_scene
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.errors import ExitCode
from fraud_daemons.supervision.deployment import deployment_of
from tests.system import planted_acceptance as plants
from tests.system.planted_acceptance import Plant, gates_with
from tests.system.platform_under_test import ROOT, PlatformUnderTest, wait_until

HOLD_SECONDS = 4.0
STREAMING_SECONDS_MAX = 6.0
"""Twice the bar of a machine of its own: this one is shared."""
DEFECTS: dict[str, tuple[str, Plant]] = {
    "an event sent twice in Gate-20": ("gate_20", plants.sent_by_another(7)),
    "an event sent twice in Gate-200": ("gate_200", plants.sent_by_another(50)),
    "a stream that takes too long": ("gate_20", plants.a_slow_gate),
    "a frozen worker after the stream": ("liveness_post_stream", plants.a_frozen_worker),
    "a crash loop within the hold": ("liveness_idle_hold", plants.a_crash_loop),
    "a transaction left open": ("liveness_idle_hold", plants.a_leaked_transaction),
    "a session that came and went": ("liveness_idle_hold", plants.a_session_in_the_hold),
    "a log moved away": ("recurrence_scan", plants.a_log_moved_away),
    "a word of the incident": ("recurrence_scan", plants.a_word_of_the_incident),
    "a connection per batch": ("connections_bounded", plants.a_connection_per_batch),
    "one lost and one doubled": ("run_report", plants.one_lost_one_doubled),
    "an edited receipt": ("run_report", plants.an_edited_receipt),
    "a dropped index": ("environment_conformance", plants.a_dropped_index),
    "a stale schema": ("environment_conformance", plants.a_stale_schema),
}
"""Defect -> the gate meant for it, and the defect. A connection per batch is there while Gate-200 flows."""
PLANTED_AROUND = {"connections_bounded": "gate_200"}
"""Gate -> the one during which its defect is there, where that is another."""


def taken(platform: PlatformUnderTest, *planted: tuple[str, Plant]) -> tuple[dict[str, Any], ExitCode]:
    """The sequence with defects, in this process, on the running platform. `planted` = gate and defect, where the defect is
    to be there."""
    wait_until(lambda: platform.status()["verdict"] == "running ready", seconds=60, what="all packs ready")
    profile = load_profile("local_parity", root=ROOT, environment=platform.environment)
    scene = open_scene(
        profile, deployment_of(profile), hold_seconds=HOLD_SECONDS, streaming_seconds_max=STREAMING_SECONDS_MAX
    )
    return accept(scene, gates=gates_with(platform, *planted))


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {gate["gate"]: f"{gate['verdict']} {gate['observed']}" for gate in document["gates"]}


def red(document: dict[str, Any]) -> list[str]:
    return [gate["gate"] for gate in document["gates"] if gate["verdict"] != "PASS"]


def test_a_good_platform_is_accepted_by_command_and_the_answer_is_evidence(platform: PlatformUnderTest) -> None:
    """Eight gates PASS in their order, each with expected, observed and what it covered; 80 and 800 events are streamed in
    time; the object holds the very answer."""
    words = ("--hold-seconds", str(HOLD_SECONDS), "--streaming-seconds", str(STREAMING_SECONDS_MAX))
    document = platform.say("accept", *words, codes=(0, 1, 4))
    assert red(document) == [], verdicts(document)
    assert [gate["gate"] for gate in document["gates"]] == list(GATES)
    assert all(gate["expected"] and gate["observed"] and gate["covered"] for gate in document["gates"])
    covered = {gate["gate"]: gate["covered"] for gate in document["gates"]}
    for gate, events in (("gate_20", 80), ("gate_200", 800)):
        assert sum(tally["admitted"] for tally in covered[gate]["outputs"].values()) == events
        assert covered[gate]["streaming_seconds"] <= covered[gate]["streaming_seconds_max"] == STREAMING_SECONDS_MAX
    assert covered["liveness_idle_hold"]["looks"] >= HOLD_SECONDS
    assert covered["recurrence_scan"]["postgres"] == "PostgreSQL by its own log"
    assert len([name for name in covered["recurrence_scan"]["files"] if name.endswith("trigger.log")]) == 1
    keys = json.loads((platform.run_dir / "secrets.json").read_text())["objectstore"]
    port = json.loads((platform.run_dir / "ports.json").read_text())["objectstore_port"]
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id=keys["writer_access_key"], aws_secret_access_key=keys["writer_secret_key"],
    )  # fmt: skip
    stored = client.get_object(Bucket="fraud-platform", Key=document.pop("evidence")["object_key"])["Body"].read()
    assert json.load(io.BytesIO(stored)) == document


def test_every_gate_can_fail(platform: PlatformUnderTest) -> None:
    """One sequence with a defect around each gate: all eight are red, each for its own reason, and the exit code is 1."""
    document, code = taken(
        platform,
        ("gate_20", plants.sent_by_another(7)),
        ("gate_200", plants.sent_by_another(50)),
        ("gate_200", plants.a_connection_per_batch),
        ("liveness_post_stream", plants.a_stopped_worker),
        ("liveness_idle_hold", plants.a_leaked_transaction),
        ("recurrence_scan", plants.a_word_of_the_incident),
        ("run_report", plants.one_lost_one_doubled),
        ("environment_conformance", plants.a_stale_schema),
    )
    found = verdicts(document)
    assert code is ExitCode.NO
    assert red(document) == list(GATES), found
    for gate, word in (
        ("gate_20", "duplicate 1"),
        ("gate_200", "duplicate 1"),
        ("liveness_post_stream", "case_trigger: stopped"),
        ("liveness_idle_hold", "leak (pid"),
        ("recurrence_scan", "0x00002740"),
        ("connections_bounded", "opened and closed again"),
        ("run_report", "planted_"),
        ("environment_conformance", "migrations"),
    ):
        assert word in found[gate], (gate, found[gate])


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_caught_by_the_gate_meant_for_it_and_by_no_other(
    platform: PlatformUnderTest, defect: str
) -> None:
    """The whole sequence per defect: one gate red, seven green."""
    gate, plant = DEFECTS[defect]
    document, code = taken(platform, (PLANTED_AROUND.get(gate, gate), plant))
    assert red(document) == [gate], verdicts(document)
    assert code is not ExitCode.GOOD
