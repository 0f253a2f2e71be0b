"""The archive of a whole platform whose writer and object store are killed again and again: plain listing, plain gzip."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections import defaultdict

import boto3
import psycopg

from tests.system.platform_under_test import PlatformUnderTest, wait_until
from tests.system.test_the_line import assert_every_equation_holds
from tests.system.test_whatever_is_killed import streaming

KILLS = 20
Place = tuple[str, int, int, str]
"""(topic, partition, position, event id)"""


def published(platform: PlatformUnderTest, run: str) -> set[Place]:
    """Every record of a run as the bus holds it; requests on control come and go with the commands."""
    with psycopg.connect(platform.dsn()) as connection:
        return set(
            connection.execute(
                'select topic, "partition", "position", event_id from bus.log'
                " where platform_run_id = %s and topic <> 'control'",
                (run,),
            ).fetchall()
        )


def archived(platform: PlatformUnderTest, run: str) -> list[Place]:
    """Every line of a run's archive objects, as anybody reads them: list, get, gunzip, one JSON a line."""
    keys = json.loads((platform.run_dir / "secrets.json").read_text())["objectstore"]
    port = json.loads((platform.run_dir / "ports.json").read_text())["objectstore_port"]
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id=keys["writer_access_key"], aws_secret_access_key=keys["writer_secret_key"],
    )  # fmt: skip
    found: list[Place] = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="fraud-platform", Prefix=f"{run}/archive/"):
        for entry in page.get("Contents", ()):
            topic, partition, _ = entry["Key"].rpartition("/")[2].split("-", 2)
            body = client.get_object(Bucket="fraud-platform", Key=entry["Key"])["Body"].read()
            for line in gzip.decompress(body).splitlines():
                record = json.loads(line)
                found.append((topic, int(partition), record["position"], record["event_id"]))
    return [place for place in found if place[0] != "control"]


def test_every_record_is_archived_once_over_twenty_kills(platform: PlatformUnderTest) -> None:
    """Writer and object store are SIGKILLed twenty times under a stream: every record of every topic stands once, each
    object in order, and `archive verify` agrees."""
    dice = random.Random(20261123)
    platform.make_world("demo", 5000)
    run = platform.new_run()
    killed: defaultdict[str, int] = defaultdict(int)
    with streaming(platform, "--rate", "40", "--max-events-per-output", "1600", world="demo") as stream:
        while sum(killed.values()) < KILLS:
            status = platform.status()
            pids = {w["worker"]: w["pid"] for p in status["packs"] for w in p["workers"]}
            pids |= {s["service"]: s["pid"] for s in status["substrate"]}
            victim = "objectstore" if dice.random() < 0.3 else "archive_writer"
            if pids[victim]:  # else it is not back yet
                platform.kill(pids[victim])
                killed[victim] += 1
            time.sleep(dice.uniform(0.4, 1.0))
            assert stream.poll() is None, f"the stream was over after {dict(killed)}"
    assert len(killed) == 2
    wait_until(lambda: platform.status()["verdict"] == "running ready", seconds=40, what="all packs ready again")
    assert_every_equation_holds(platform.report())
    expected = published(platform, run)
    wait_until(
        lambda: platform.say("archive", "verify", codes=(0, 1))["waiting"] == 0, seconds=30, every=0.5,
        what="the archive has put everything",
    )  # fmt: skip
    lines = archived(platform, run)
    assert len(lines) == len(set(lines)), "a record stands in the archive twice"
    assert set(lines) >= expected
    topics = {topic for topic, *_ in expected}
    assert {place for place in lines if place[0] in topics} == expected
    by_object_order = [place[:3] for place in lines]
    assert by_object_order == sorted(by_object_order), "objects listed by name give each partition in order"
    assert platform.say("archive", "verify")["verdict"] == "PASS"
