"""platform replay: a run that went the whole way, recomputed by another copy of the project from the objects alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud_daemons.acceptance import archived_run
from fraud_daemons.cli.main import run
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.evidence.archive_lines import line_of, packed
from fraud_daemons.evidence.keys import place_of
from fraud_daemons.supervision.substrate.postgres import PostgresServer
from fraud_daemons.workers.decision_lane import decision_fabric
from fraud_daemons.workers.rtdl_core import archive_writer
from tests.conftest import opened_line
from tests.integration.lane import bind, flow, pin
from tests.integration.whole_line import TRANSACTIONS, finish, settle, stream_the_world
from tests.line import ROOT, Line

SMALL_OBJECTS = {"evidence.segment_records_max": 15}


def copy_of(line: Line, folder: Path) -> Path:
    """The bucket's objects of the line's run as files: all that the other copy of the project gets."""
    store = line.make_store()
    for facts in store.list(f"{line.run}/archive/"):
        path = folder / facts.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(facts.key))
    return folder


@pytest.fixture(scope="module")
def archive(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, provisioned_template: str
) -> Iterator[Path]:
    """A copy of the archive of one whole run, in objects of fifteen records; its database is gone by then."""
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with opened_line(request, postgres_server, provisioned_template, folder) as line:
            stream_the_world(line, folder)
            finish(line, settings=SMALL_OBJECTS)
            copy_of(line, folder / "bucket")
        yield folder / "bucket"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mine(archive: Path, tmp_path: Path) -> Path:
    """A copy of the copy, to spoil."""
    return Path(shutil.copytree(archive, tmp_path / "bucket"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another copy of the project: without any policy file, without a database and without a store."""
    monkeypatch.setenv("PLATFORM_DSN", "host=127.0.0.1 port=1 user=nobody dbname=nowhere connect_timeout=1")
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(tmp_path / "run"))
    folder = tmp_path / "project"
    for part in ("config", "packs"):
        shutil.copytree(ROOT / part, folder / part)
    for policy in (folder / "config" / "policies").glob("*.toml"):
        policy.unlink()
    return folder


def replay(capsys: pytest.CaptureFixture[str], project: Path, bucket: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of `platform replay`."""
    capsys.readouterr()
    code = run(["--root", str(project), "replay", "--archive", str(bucket), *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def decisions_in(bucket: Path) -> list[dict[str, Any]]:
    """Every archived decision, as anybody reads them."""
    return [
        json.loads(line)["body"]
        for path in sorted(bucket.glob("*/archive/decisions-*"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]


def rewritten(path: Path, change: Any, *, under_its_own_hash: bool = False) -> Path:
    """An object whose records' bodies were changed; `under_its_own_hash` renames it, as whoever knows the scheme would."""
    lines = []
    for line in gzip.decompress(path.read_bytes()).splitlines():
        record = orjson.loads(line)
        body = orjson.dumps(change(record.pop("body")))
        lines.append(line_of(**record, body=body))
    data = packed(lines)
    path.write_bytes(data)
    if not under_its_own_hash:
        return path
    place = place_of(f"r/archive/{path.name}")
    assert place
    return path.rename(path.with_name(path.name.replace(place.sha256_begins, hashlib.sha256(data).hexdigest()[:16])))


def test_another_copy_gets_the_same_bytes_from_the_objects_alone(
    archive: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """120 of 120 decisions byte for byte, by a project that has neither database, store nor the policy's file."""
    code, said = replay(capsys, project, archive)
    assert (code, said["verdict"], said["examples"]) == (0, "PASS", [])
    assert (said["decisions"], said["equal"], said["different"], said["not_replayed"]) == (
        TRANSACTIONS,
        TRANSACTIONS,
        0,
        0,
    )
    digests = {decision["policy"]["digest"] for decision in decisions_in(archive)}
    assert said["policies"] == dict.fromkeys(digests, "archive")
    assert said["objects"]["decisions"] > 3, "the run must not be one object, or the order of reading is not tried"


def test_a_changed_weight_lists_exactly_the_decisions_it_changes(
    archive: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rule fires above 220.00 and on nothing else: the decisions above that amount are listed, each with both scores."""
    text = (ROOT / "config" / "policies" / "baseline.toml").read_text()
    rule = 'id = "amount_outlier"'
    head, _, tail = text.partition(rule)
    changed = tmp_path / "changed.toml"
    changed.write_text(head + rule + tail.replace("weight = 25", "weight = 26", 1))
    expected = {d["decision_id"]: d["score"] for d in decisions_in(archive) if d["traffic"]["amount_minor"] > 22000}
    assert expected
    code, said = replay(capsys, project, archive, "--policy", str(changed))
    assert (code, said["verdict"], said["different"]) == (1, "DIFFERS", len(expected))
    listed = {d["decision_id"]: d["fields"]["score"] for d in said["differences"]}
    assert listed == {each: {"recorded": score, "replayed": score + 1} for each, score in expected.items()}
    same = tmp_path / "same.toml"
    same.write_text("# other layout, same rules\n" + text)
    code, said = replay(capsys, project, archive, "--policy", str(same))
    assert (code, said["verdict"], said["equal"]) == (0, "PASS", TRANSACTIONS)


@pytest.mark.parametrize("topic", ["decisions", "flows.featured", "flows.bound"])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_object_is_named(
    topic: str, which: int, mine: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First, middle or last object of a partition: never PASS, and the answer leads to the object or to its flows."""
    partition = max(range(3), key=lambda number: len(list(mine.glob(f"*/archive/{topic}-{number:03d}-*"))))
    objects = sorted(mine.glob(f"*/archive/{topic}-{partition:03d}-*"))
    assert len(objects) >= 3
    gone = objects[which]
    held = [json.loads(line) for line in gzip.decompress(gone.read_bytes()).splitlines()]
    gone.unlink()
    code, said = replay(capsys, project, mine)
    assert (code, said["verdict"]) == (1, "FAIL")
    told = "\n".join(f"{problem['object']}: {problem['what']}" for problem in said["examples"])
    if which == 1:
        assert gone.name[: -len("0123456789abcdef.ndjson.gz")] in told
    match topic:
        case "decisions":
            assert said["decisions"] == TRANSACTIONS - len(held)
            assert all(record["body"]["flow_id"] in told for record in held)
        case "flows.featured":
            ids = [derived_id("decision", record["body"]["platform_run_id"], record["event_id"]) for record in held]
            assert said["not_replayed"] == len(held)
            assert all(f"decision {each}: its record is missing: " in told for each in ids)
        case _:
            assert all(f"flow {record['event_id']} is decided and was never bound" in told for record in held)


def test_an_altered_decision_is_named_with_its_fields(
    mine: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One outcome flipped in one object: the object does not match its name, and the decision and field are listed - the
    latter also when the object was renamed to its new hash."""
    path = sorted(mine.glob("*/archive/decisions-*"))[1]
    victim = json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])["event_id"]

    def flipped(body: dict[str, Any]) -> dict[str, Any]:
        other = "BLOCK" if body["outcome"] != "BLOCK" else "ALLOW"
        return {**body, "outcome": other} if body["decision_id"] == victim else body

    rewritten(path, flipped)
    code, said = replay(capsys, project, mine)
    assert (code, said["verdict"], said["problems"]) == (1, "FAIL", 1)
    assert said["examples"][0]["object"].endswith(path.name)
    assert "was altered" in said["examples"][0]["what"]
    assert [(d["decision_id"], list(d["fields"])) for d in said["differences"]] == [(victim, ["outcome"])]
    rewritten(path, lambda body: body, under_its_own_hash=True)
    code, said = replay(capsys, project, mine)
    assert (code, said["verdict"], said["problems"]) == (1, "DIFFERS", 0)
    assert [d["decision_id"] for d in said["differences"]] == [victim]


def test_an_altered_policy_is_not_used(mine: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy whose table is not that of its digest decides nothing: named, and no decision counts as replayed."""

    def softened(body: dict[str, Any]) -> dict[str, Any]:
        body["table"]["rules"][0]["weight"] = 1
        return body

    (path,) = mine.glob("*/archive/policies-*")
    rewritten(path, softened, under_its_own_hash=True)
    code, said = replay(capsys, project, mine)
    assert (code, said["verdict"], said["equal"], said["not_replayed"]) == (1, "FAIL", 0, TRANSACTIONS)
    assert "its table has digest" in said["examples"][0]["what"]
    path = next(iter(mine.glob("*/archive/policies-*")))
    path.unlink()
    shutil.copytree(ROOT / "config" / "policies", project / "config" / "policies", dirs_exist_ok=True)
    code, said = replay(capsys, project, mine)
    assert (code, said["verdict"], set(said["policies"].values())) == (0, "PASS", {"project"})


def test_what_is_no_object_of_the_archive_is_named(
    mine: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file cut short, one that is no gzip, one with a strange name: each named, the rest replayed."""
    objects = sorted(mine.glob("*/archive/case_events-*")) + sorted(mine.glob("*/archive/decisions-*"))
    last = objects[-1]
    last.write_bytes(last.read_bytes()[:-10])
    (last.parent / "notes.txt").write_text("mine")
    code, said = replay(capsys, project, mine)
    assert (code, said["verdict"]) == (1, "FAIL")
    told = {Path(problem["object"]).name for problem in said["examples"]}
    assert {last.name, "notes.txt"} <= told
    assert said["equal"] == said["decisions"] < TRANSACTIONS


def test_little_is_held_however_many_objects_there_are(
    archive: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one unpacked object held at a time the answer is the same: memory is a matter of speed only."""
    monkeypatch.setattr(archived_run, "OBJECTS_HELD_MAX", 1)
    assert replay(capsys, project, archive)[1]["verdict"] == "PASS"


def test_bad_words_are_refused_in_a_line(
    archive: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown run 1; no such folder, an empty one, no such policy, a policy that reads a label, a page of nothing: 1 or 2."""
    broken = tmp_path / "broken.toml"
    broken.write_text((ROOT / "config" / "policies" / "baseline.toml").read_text().replace("amount_minor", "label", 1))
    (tmp_path / "empty").mkdir()
    cases = [
        (["--archive", str(archive), "--run", "platform_20000101T000000Z"], 1, "nothing of run"),
        (["--archive", str(tmp_path / "nowhere")], 2, "does not exist"),
        (["--archive", str(tmp_path / "empty")], 1, "holds no run"),
        (["--archive", str(archive), "--policy", "nowhere"], 2, "No such file"),
        (["--archive", str(archive), "--policy", str(broken)], 1, "rule amount_outlier"),
        (["--archive", str(archive), "--limit", "0"], 2, "--limit"),
    ]
    for words, code, message in cases:
        capsys.readouterr()
        assert run(["--root", str(project), "replay", *words]) == code, words
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_postures_policies_and_poison_replay_too(
    line: Line, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decided from features, without them under DEGRADED_2, by the stand-in under FAIL_CLOSED, and one bound record that
    nobody can decide: every decision recomputes, and the one that is not there is explained."""
    line.run = f"platform_20260102T{uuid.uuid4().int % 10**6:06}Z"
    line.begin_run()
    numbers = iter(range(100))

    def flows(count: int) -> list[dict[str, Any]]:
        return [flow(next(numbers), platform_run_id=line.run) for _ in range(count)]

    fabric = line.activities(decision_fabric.WORKER)
    pin(line, "NORMAL")
    line.append("flows.featured", bind(line, flows(10)))
    line.drain(fabric)
    pin(line, "DEGRADED_2")
    line.append("flows.bound", [*flows(10), {**flow(99, platform_run_id=line.run), "traffic": None}])
    line.drain(fabric)
    pin(line, "NORMAL")
    fabric = line.activities(decision_fabric.WORKER, settings={"decision.policy": "gone"})
    bind(line, flows(5))
    line.drain(fabric)
    settle(line, archive_writer.WORKER)
    code, said = replay(capsys, project, copy_of(line, tmp_path / "bucket"), "--run", line.run)
    assert (code, said["verdict"], said["examples"]) == (0, "PASS", [])
    assert (said["equal"], said["undecidable"], len(said["policies"])) == (25, 1, 2)
    assert set(said["policies"].values()) == {"archive"}
