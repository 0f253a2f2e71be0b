"""The built-in world: the same to the byte, worth looking at from its first transactions, admissible at the gate."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH, make_event
from fraud_daemons.domain.schemas import validate_event
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.generator import make_world
from fraud_daemons.worlds.sealed import World

# Of `make_world(transactions=5000, seed=1, currency="USD")`. Changes only together with GENERATOR_VERSION.
DEMO_FINGERPRINT = "5f3e76bc2fe7ff302f638d04a0b0e8331ae1dc7514d6aafaf6fb61f38a8dcd22"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("worlds"), name="demo")


def final_truth(world: World) -> dict[str, dict]:
    return {row["payload"]["flow_id"]: row["payload"] for row in world.rows(TRUTH)}


def test_the_demo_has_the_pinned_fingerprint(demo: World) -> None:
    """The default world is the same content on every machine and every Python."""
    assert demo.fingerprint == DEMO_FINGERPRINT


def test_two_runs_are_identical_to_the_byte(demo: World, tmp_path: Path) -> None:
    """Another process with another hash seed writes the same bytes into every file."""
    program = "import sys; from pathlib import Path; from fraud_daemons.worlds.generator import make_world; make_world(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, env={"PYTHONHASHSEED": "7"})
    names = sorted(path.name for path in demo.path.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "demo").iterdir())
    for name in names:
        assert (tmp_path / "demo" / name).read_bytes() == (demo.path / name).read_bytes(), name


def test_another_seed_and_another_size_share_no_flow(demo: World, tmp_path: Path) -> None:
    """Two generated worlds on one run never meet under one flow id."""
    seeded = make_world(tmp_path, name="seeded", transactions=300, seed=2)
    smaller = make_world(tmp_path, name="smaller", transactions=300, seed=1)
    flows = [set(world.flow_ids()) for world in (demo, seeded, smaller)]
    assert len(set.union(*flows)) == sum(map(len, flows)) == 5600


def test_the_name_is_no_part_of_the_content(demo: World, tmp_path: Path) -> None:
    """The same content under another name has the same fingerprint and the same scenario_run_id."""
    other = make_world(tmp_path, name="other")
    assert (other.fingerprint, other.scenario_run_id) == (demo.fingerprint, demo.scenario_run_id)


def test_one_to_two_percent_are_fraud_of_three_kinds(demo: World) -> None:
    """The demo shows something, and not too much: 1-2 % fraud of each of the Handbook's three patterns."""
    kinds = Counter(truth["fraud_type"] for truth in final_truth(demo).values() if truth["fraud"])
    assert set(kinds) == {"amount_outlier", "compromised_terminal", "leaked_card"}
    assert 0.01 <= sum(kinds.values()) / demo.transactions <= 0.02


def test_the_first_200_hold_an_outlier_and_a_burst(demo: World) -> None:
    """Whoever streams 200 transactions sees a very high amount and one card used again and again within minutes."""
    amounts = [row["payload"]["amount_minor"] for row in demo.read("traffic", 0, 200)]
    assert sum(amount >= 150_000 for amount in amounts) >= 2
    uses = [(row["payload"]["card_token"], row["occurred_at"][:13]) for row in demo.read("flow_anchors", 0, 200)]
    assert Counter(uses).most_common(1)[0][1] >= 4


def test_truth_is_observed_within_the_hour_or_days_late_and_sometimes_corrected(demo: World) -> None:
    """No label is known before its delay; corrections come after what they correct; honest purchases get labels too."""
    from datetime import datetime, timedelta

    rows = list(demo.rows(TRUTH))
    for row in rows:
        late = datetime.fromisoformat(row["occurred_at"]) - datetime.fromisoformat(row["payload"]["effective_time"])
        assert timedelta(minutes=2) <= late <= timedelta(hours=1) or timedelta(days=1) <= late <= timedelta(
            days=14, hours=1
        )
    first_at = {r["payload"]["flow_id"]: r["occurred_at"] for r in rows if r["payload"]["correction"] == 0}
    corrections = [r for r in rows if r["payload"]["correction"] == 1]
    assert corrections
    assert all(first_at[r["payload"]["flow_id"]] < r["occurred_at"] for r in corrections)
    assert any(not truth["fraud"] and truth["correction"] == 0 for truth in final_truth(demo).values())


def test_devices_and_addresses_exist_only_over_the_network(demo: World) -> None:
    """A terminal on a counter knows no device and no address: null, never invented."""
    for event, entity in zip(demo.rows("arrival_events"), demo.rows("arrival_entities"), strict=True):
        online = event["payload"]["channel"] == "ECOM"
        assert (entity["payload"]["device_id"] is not None) == online
        assert (entity["payload"]["ip"] is not None) == online


def test_seconds_are_shared(demo: World) -> None:
    """Time alone is no order: several transactions share a second and source_seq decides."""
    times = Counter(row["occurred_at"] for row in demo.rows("traffic"))
    assert sum(count > 1 for count in times.values()) > 50


def test_every_event_of_the_demo_passes_the_gate(demo: World) -> None:
    """The gate's own schemas admit every event of all five streams."""
    for stream in (*OUTPUTS, TRUTH):
        for row in demo.rows(stream):
            event = make_event(
                event_type=stream,
                platform_run_id="platform_20260302T000000Z",
                scenario_run_id=demo.scenario_run_id,
                world=demo.name,
                producer="world_stream_producer",
                **row,
            )
            assert validate_event(event, currency="USD") is None


@pytest.mark.parametrize("transactions", [1, 2, 19, 49, 199, 201, 1403])
def test_any_size_is_exact(transactions: int, tmp_path: Path) -> None:
    """A world has exactly as many transactions as were asked for, however few."""
    world = make_world(tmp_path, name="small", transactions=transactions)
    assert [world.count(output) for output in OUTPUTS] == [transactions] * 4
    world.verify()


def test_bad_arguments_are_reported_together(tmp_path: Path) -> None:
    """Every wrong argument is named at once and nothing is written."""
    with pytest.raises(ConfigurationError) as caught:
        make_world(tmp_path, name="../up", transactions=0, seed=-1, currency="usd")
    assert len(caught.value.problems) == 4
    assert list(tmp_path.iterdir()) == []
