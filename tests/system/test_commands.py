"""The commands that change something, on a whole platform with the roles and the processes it has for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet
import pytest

from tests.system.platform_under_test import PlatformUnderTest, wait_until
from tests.system.test_the_line import assert_every_equation_holds, post

TRANSACTIONS = 60


@pytest.mark.slow
def test_what_people_ask_for_is_carried_out_by_its_owner(platform: PlatformUnderTest, tmp_path: Path) -> None:
    """A label asserted, a slice exported, a letter redriven and one skipped, a refused event asked for again, the run
    replayed from its own archive: each by the command, each by its owner's role, and the report still holds."""
    platform.make_world("commands", TRANSACTIONS)
    run = platform.new_run()
    platform.stream("commands")
    decisions = platform.say("decisions", "list", "--limit", "1000")["decisions"]
    assert len(decisions) == TRANSACTIONS
    flow = decisions[0]["flow_id"]
    asserted = platform.say("labels", "assert", flow, "FRAUD", "--actor", "ada")
    assert platform.say("labels", "as-of", flow)["label"]["label_id"] == asserted["label_id"]
    file = tmp_path / "slice.parquet"
    assert platform.say("labels", "export", str(file))["rows"] == TRANSACTIONS
    values = {row["flow_id"]: row["label_value"] for row in pyarrow.parquet.read_table(file).to_pylist()}
    assert values[flow] == "FRAUD"
    letters = plant_letters(platform, run)
    ended = platform.say("deadletters", "redrive", letters[0], "--reason", "mended", "--by", "ada")
    assert [letter["state"] for letter in ended["letters"]] == ["DONE"]
    platform.say("deadletters", "skip", letters[1], "--reason", "of no use", "--by", "ada")
    states = {row["letter"]: row["state"] for row in platform.say("deadletters", "list")["letters"]}
    assert states == {letters[0]: "REDRIVEN", letters[1]: "SKIPPED"}
    refused = platform.say("quarantine", "redrive", refuse_one(platform, run), "--reason", "try", codes=(1,))
    assert [row["refusal"] for row in refused["redriven"]] == ["PAYLOAD_HASH_MISMATCH"]
    said = wait_until(lambda: whole(platform), seconds=60, every=1.0, what="the archive holds the run")
    assert (said["decisions"], said["equal"], said["examples"]) == (TRANSACTIONS, TRANSACTIONS, [])
    assert set(said["policies"].values()) == {"archive"}
    assert_every_equation_holds(platform.report())


def whole(platform: PlatformUnderTest) -> Any:
    """The run's replay from the profile's own store, once it says PASS."""
    said = platform.say("replay", codes=(0, 1))
    return said if said["verdict"] == "PASS" else None


def plant_letters(platform: PlatformUnderTest, run: str) -> list[str]:
    """Two letters of the entity graph, of records that it applied long ago: a redrive meets its own footprint."""
    with psycopg.connect(platform.dsn()) as connection:
        rows = connection.execute(
            'insert into dead_letters.letters (worker, topic, "partition", "position", platform_run_id, event_id,'
            ' record_key, reason, detail, body, dead_at) select \'identity_entity_graph\', topic, "partition", "position",'
            " platform_run_id, event_id, record_key, 'planted', 'by a test', body, now() from bus.log"
            " where platform_run_id = %s and topic = 'flows.bound' order by 3, 4 limit 2"
            ' returning worker, topic, "partition", "position"',
            (run,),
        ).fetchall()
    return [":".join(map(str, row)) for row in rows]


def refuse_one(platform: PlatformUnderTest, run: str) -> str:
    """An admitted event with another content, sent as the producer would: the quarantine id of its refusal."""
    with psycopg.connect(platform.dsn()) as connection:
        row = connection.execute(
            "select body from bus.log where platform_run_id = %s and topic = 'traffic' and record_key not like 'mark-%%' limit 1",
            (run,),
        ).fetchone()
    assert row
    event = json.loads(bytes(row[0]))
    event["payload"]["amount_minor"] += 1
    status, answer = post(platform, "/v1/events", event, key=platform.secret("gate", "producer_key"))
    assert status == 200
    return str(answer["results"][0]["quarantine_id"])
