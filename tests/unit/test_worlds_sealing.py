"""A sealed world: read by ordinal, refused after one changed byte, never half there."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.domain.identity import derived_id, frame_key
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.generator import make_world
from fraud_daemons.worlds.sealed import World, list_worlds, open_world, survey_worlds
from fraud_daemons.worlds.sealing import Provenance, seal, sealing_folder
from fraud_daemons.worlds.streams import StreamWriter
from fraud_daemons.worlds.transaction import Transaction

COUNT = 1300  # two full blocks and a part of a third


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("worlds"), name="w", transactions=COUNT)


@pytest.fixture
def worlds_dir(original: World, tmp_path: Path) -> Path:
    shutil.copytree(original.path, tmp_path / "w")
    return tmp_path


def test_the_four_outputs_are_in_the_same_total_order(original: World) -> None:
    """Row k of every output has the same time and source_seq k, strictly rising."""
    keys = {output: [(r["occurred_at"], r["source_seq"]) for r in original.rows(output)] for output in OUTPUTS}
    assert len({tuple(of_output) for of_output in keys.values()}) == 1
    assert keys["traffic"] == sorted(set(keys["traffic"]))
    assert [seq for _, seq in keys["traffic"]] == list(range(COUNT))


def test_arrivals_are_counted_from_one_per_terminal_and_merchant(original: World) -> None:
    """arrival_seq is 1, 2, 3… in the world's order at each place, so every frame key is unique."""
    seen: dict[tuple, list[int]] = defaultdict(list)
    for row in original.rows("arrival_events"):
        payload = row["payload"]
        seen[payload["terminal_id"], payload["merchant_id"]].append(payload["arrival_seq"])
    assert all(sequence == list(range(1, len(sequence) + 1)) for sequence in seen.values())


def test_anchors_events_and_entities_of_a_row_name_the_same_frame(original: World) -> None:
    """What belongs together meets: flow ids between traffic and anchors, frames between the other three."""
    for traffic, event, entity, anchor in zip(*(original.rows(output) for output in OUTPUTS), strict=True):
        assert traffic["payload"]["flow_id"] == anchor["payload"]["flow_id"]
        frames = {
            frame_key(r["payload"]["merchant_id"], r["payload"]["terminal_id"], r["payload"]["arrival_seq"])
            for r in (event, entity, anchor)
        }
        assert len(frames) == 1


def test_traffic_has_no_entities_and_no_output_has_truth(original: World) -> None:
    """Traffic carries no entity id; fraud is a word of the truth feed alone."""
    forbidden = {"card_token", "party_id", "account_id", "device_id", "ip", "merchant_id", "terminal_id"}
    assert all(not forbidden & set(row["payload"]) for row in original.rows("traffic"))
    for output in OUTPUTS:
        assert all(not {"fraud", "fraud_type"} & set(row["payload"]) for row in original.rows(output))


@given(start=st.integers(0, COUNT + 50), count=st.integers(0, COUNT + 50), output=st.sampled_from(OUTPUTS))
@settings(max_examples=60, deadline=None)
def test_read_is_a_slice(original: World, start: int, count: int, output: str) -> None:
    """read(output, start, count) is the slice of the stream, empty behind its end, wherever blocks begin."""
    assert original.read(output, start, count) == list(original.rows(output))[start : start + count]


@given(ordinal=st.integers(0, COUNT - 1))
@settings(max_examples=40, deadline=None)
def test_rows_until_counts_what_is_not_later(original: World, ordinal: int) -> None:
    """rows_until(t) counts the rows at or before t, shared seconds included."""
    at = original.order_key("traffic", ordinal)[0]
    assert original.rows_until("traffic", at) == sum(row["occurred_at"] <= at for row in original.rows("traffic"))
    assert original.rows_until(TRUTH, "1999") == 0
    assert original.rows_until(TRUTH, "9999") == original.count(TRUTH)


def test_order_key_behind_the_end_is_an_error(original: World) -> None:
    """There is no place behind the end of a world."""
    with pytest.raises(IndexError):
        original.order_key("traffic", COUNT)


def test_the_scenario_is_derived_from_the_fingerprint(original: World) -> None:
    """scenario_run_id = derived_id("scenario", fingerprint)."""
    assert original.scenario_run_id == derived_id("scenario", original.fingerprint)


@pytest.mark.parametrize("file", ["traffic.blocks", "truth.blocks", "flow_anchors.blocks", "index.json", "world.json"])
@pytest.mark.parametrize("place", [0.0, 0.37, 0.8])
def test_one_changed_byte_is_refused(worlds_dir: Path, file: str, place: float) -> None:
    """Whichever byte of whichever file changes, the world is refused and the refusal says what to do."""
    path = worlds_dir / "w" / file
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="make or import the world again"):
        open_world(worlds_dir, "w")


def test_a_cut_or_missing_file_is_refused_by_name(worlds_dir: Path) -> None:
    """All damaged files are named together."""
    traffic = worlds_dir / "w" / "traffic.blocks"
    traffic.write_bytes(traffic.read_bytes()[:-1])
    (worlds_dir / "w" / "truth.blocks").unlink()
    with pytest.raises(ConfigurationError, match=r"traffic\.blocks has (.|\n)*truth\.blocks cannot be read"):
        open_world(worlds_dir, "w")


def test_a_resealed_forgery_is_refused(worlds_dir: Path) -> None:
    """A fingerprint edited together with its seal does not fit the streams."""
    from fraud_daemons.worlds.sealed import seal_of

    path = worlds_dir / "w" / "world.json"
    document = json.loads(path.read_text())
    del document["seal"]
    document["fingerprint"] = "0" * 64
    path.write_text(json.dumps(document | {"seal": seal_of(document)}))
    with pytest.raises(ConfigurationError, match="not that of its streams"):
        open_world(worlds_dir, "w")


def test_verify_reads_the_whole_content(worlds_dir: Path) -> None:
    """verify passes on a whole world, and finds a block that changed after the world was opened."""
    world = open_world(worlds_dir, "w")
    world.verify()
    path = worlds_dir / "w" / "flow_anchors.blocks"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        world.verify()


def test_the_same_again_is_a_no_op_and_other_content_is_refused(worlds_dir: Path) -> None:
    """Making a world twice leaves its files untouched; other content under its name is refused, the world stays."""
    before = {path.name: path.stat().st_mtime_ns for path in (worlds_dir / "w").iterdir()}
    make_world(worlds_dir, name="w", transactions=COUNT)
    with pytest.raises(ConfigurationError, match="take another name"):
        make_world(worlds_dir, name="w", transactions=COUNT, seed=2)
    assert {path.name: path.stat().st_mtime_ns for path in (worlds_dir / "w").iterdir()} == before


def test_a_crash_while_sealing_leaves_no_world(tmp_path: Path) -> None:
    """A side folder is not listed and not in the way: the next sealing of that name removes it."""
    (tmp_path / ".w.sealing").mkdir()
    (tmp_path / ".w.sealing" / "traffic.blocks").write_bytes(b"half")
    assert list_worlds(tmp_path) == []
    make_world(tmp_path, name="w", transactions=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".w.lock", "w"]


def test_two_makers_of_one_world_do_not_mix(tmp_path: Path) -> None:
    """While one process seals a world another is refused."""
    with (tmp_path / ".w.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another process"):
            make_world(tmp_path, name="w", transactions=5)


def test_a_failure_while_sealing_leaves_nothing(tmp_path: Path) -> None:
    """A source that fails half way leaves neither a world nor its side folder."""

    def broken():
        yield Transaction("a" * 32, "2026-01-01T00:00:00.000000Z", 1, "USD", {"message_type": "0100"})
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError), sealing_folder(tmp_path, "w") as folder:
        seal(
            folder,
            worlds_dir=tmp_path,
            name="w",
            transactions=broken(),
            truths=(),
            provenance=Provenance("import", "USD", {}),
        )
    assert [path.name for path in tmp_path.iterdir()] == [".w.lock"]


def test_a_stream_refuses_rows_out_of_order(tmp_path: Path) -> None:
    """Order is kept by the writer, not by the good will of a source."""
    writer = StreamWriter(tmp_path / "s.blocks")
    writer.append(occurred_at="2026-01-01T00:00:01.000000Z", source_seq=1, payload={})
    with pytest.raises(ValueError, match="one total order"):
        writer.append(occurred_at="2026-01-01T00:00:01.000000Z", source_seq=1, payload={})
    writer.abandon()


def test_one_damaged_world_does_not_hide_the_others(worlds_dir: Path) -> None:
    """A survey names the damaged and lists the whole ones."""
    make_world(worlds_dir, name="good", transactions=5)
    (worlds_dir / "w" / "world.json").write_text("{}")
    survey = survey_worlds(worlds_dir)
    assert [manifest.world for manifest in survey.manifests] == ["good"]
    assert list(survey.damaged) == ["w"]


def test_an_unknown_world_names_the_known(worlds_dir: Path) -> None:
    """The refusal of a misspelt name lists what there is."""
    with pytest.raises(ConfigurationError, match="known: w;"):
        open_world(worlds_dir, "ww")


def test_a_world_renamed_by_hand_is_refused(worlds_dir: Path) -> None:
    """The name is in every event, so folder and manifest must agree."""
    (worlds_dir / "w").rename(worlds_dir / "v")
    with pytest.raises(ConfigurationError, match="not renamed by hand"):
        open_world(worlds_dir, "v")
