"""A run of the whole platform, replayed by another copy of the project that has nothing but the archive's objects."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.system.platform_under_test import COMMAND, ROOT, PlatformUnderTest, wait_until

TRANSACTIONS = 10_000
MEMORY_KIB_MAX = 250 * 1024
"""Whatever the length of the run: a few unpacked objects, and the interpreter with what it imports."""


def copy_of(platform: PlatformUnderTest, run: str, folder: Path) -> Path:
    """The run's archive objects as files: list and get, as anybody would."""
    keys = json.loads((platform.run_dir / "secrets.json").read_text())["objectstore"]
    port = json.loads((platform.run_dir / "ports.json").read_text())["objectstore_port"]
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id=keys["writer_access_key"], aws_secret_access_key=keys["writer_secret_key"],
    )  # fmt: skip
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="fraud-platform", Prefix=f"{run}/archive/"):
        for entry in page.get("Contents", ()):
            path = folder / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get_object(Bucket="fraud-platform", Key=entry["Key"])["Body"].read())
    return folder


def replay(project: Path, bucket: Path, *words: str) -> tuple[int, Any]:
    """`platform replay` of another copy of the project, which has no run directory and no policy of that name."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PLATFORM", "PYTEST", "AWS"))
    }
    environment["PLATFORM_PROFILE_RUN_DIR"] = str(project / "nothing")
    said = project / "said.json"
    began = time.monotonic()
    with said.open("w") as out:
        child = subprocess.Popen(
            [str(COMMAND), "--root", str(project), "replay", "--archive", str(bucket), *words, "--json"],
            cwd=project, env=environment, stdout=out,
        )  # fmt: skip
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(said.read_text())
    print(
        f"{document['decisions']} decisions in {time.monotonic() - began:.1f} s, {used.ru_maxrss / 1024:.0f} MB at most"
    )
    assert used.ru_maxrss < MEMORY_KIB_MAX
    return child.returncode, document


@pytest.mark.slow
def test_ten_thousand_decisions_from_the_archive_alone(platform: PlatformUnderTest, tmp_path: Path) -> None:
    """10,000 decisions come out byte for byte; with one weight changed exactly those are listed on which its rule fired."""
    platform.make_world("tenthousand", TRANSACTIONS)
    run = platform.new_run()
    platform.stream("tenthousand", timeout=900)
    wait_until(
        lambda: (said := platform.say("archive", "verify", codes=(0, 1)))["waiting"] == 0 and said["verdict"] == "PASS",
        seconds=120, every=1.0, what="the archive has put everything",
    )  # fmt: skip
    bucket, project = copy_of(platform, run, tmp_path / "bucket"), tmp_path / "project"
    for part in ("config", "packs"):
        shutil.copytree(ROOT / part, project / part)
    text = (project / "config" / "policies" / "baseline.toml").read_text()
    shutil.rmtree(project / "config" / "policies")
    code, said = replay(project, bucket)
    assert (code, said["verdict"], said["examples"]) == (0, "PASS", [])
    assert (said["decisions"], said["equal"]) == (TRANSACTIONS, TRANSACTIONS)
    head, rule, tail = text.partition('id = "amount_outlier"')
    changed = tmp_path / "changed.toml"
    changed.write_text(head + rule + tail.replace("weight = 25", "weight = 45", 1))
    above = {
        record["body"]["decision_id"]
        for path in bucket.glob("*/archive/decisions-*")
        for record in map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
        if record["body"]["traffic"]["amount_minor"] > 22000
    }
    code, said = replay(project, bucket, "--policy", str(changed))
    assert (code, said["verdict"]) == (1, "DIFFERS")
    assert {difference["decision_id"] for difference in said["differences"]} == above
