"""The two real files beside the project become worlds, every row accounted for. Never committed; skipped where absent."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.worlds.importer import Imported, import_world
from fraud_daemons.worlds.mapping import load_mapping
from fraud_daemons.worlds.normaliser import Selection

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not beside the project (../shared/data)")


def imported(file: str, mapping: str, folder: Path, selection: Selection | None = None) -> Imported:
    rules = load_mapping(ROOT / "config" / "mappings" / f"{mapping}.toml")
    return import_world(DATA / file, mapping=rules, worlds_dir=folder, name=mapping, selection=selection or Selection())


@pytest.fixture(scope="module")
def pcard(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return imported("pcard_transactions.csv.gz", "pcard", tmp_path_factory.mktemp("pcard"))


@pytest.fixture(scope="module")
def handbook_day(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    day = date(2018, 7, 18)
    folder = tmp_path_factory.mktemp("handbook")
    return imported("handbook_2018-07.parquet", "handbook", folder, Selection(from_date=day, to_date=day))


def test_all_purchase_card_rows_are_accounted_for(pcard: Imported) -> None:
    """95,272 rows: each one is a transaction or a reject with its reason, in all four outputs, and 206 are frauds."""
    account = pcard.account
    assert account.rows == 95_272 == account.transactions + account.rejects
    assert sum(1 for _ in pcard.world.rejects()) == account.rejects == 0
    assert [pcard.world.count(output) for output in OUTPUTS] == [account.transactions] * 4
    assert pcard.world.count(TRUTH) == 206


def test_purchase_card_order_inside_a_day_is_the_record_number(pcard: Imported) -> None:
    """Dates without clock time: midnight, and inside a day the record number decides."""
    from fraud_daemons.domain.identity import derived_id

    assert list(pcard.world.flow_ids()) == [derived_id("flow", "pcard", str(n)) for n in range(1, 95_273)]
    assert {row["occurred_at"][10:] for row in pcard.world.rows("traffic")} == {"T00:00:00.000000Z"}


def test_purchase_card_facts_survive(pcard: Imported) -> None:
    """3,351 blank merchants are null, the outlier is exact to the cent, no card id of the file is in the world."""
    anchors = [row["payload"] for row in pcard.world.rows("flow_anchors")]
    assert sum(anchor["merchant_id"] is None for anchor in anchors) == 3_351
    assert len({anchor["card_token"] for anchor in anchors}) == 1_636
    assert all(anchor["card_token"].startswith("pc-card-") for anchor in anchors)
    assert max(row["payload"]["amount_minor"] for row in pcard.world.rows("traffic")) == 310_204_553


def test_one_handbook_day_has_the_oracles_counts(handbook_day: Imported) -> None:
    """18 July: 9,530 transactions of 3,669 cards at 6,117 terminals, the other rows of the month outside the dates."""
    assert handbook_day.account.transactions == 9_530
    assert handbook_day.account.rows == 296_928 == 9_530 + handbook_day.account.outside_dates
    anchors = [row["payload"] for row in handbook_day.world.rows("flow_anchors")]
    assert len({anchor["card_token"] for anchor in anchors}) == 3_669
    assert len({anchor["terminal_id"] for anchor in anchors}) == 6_117


def test_handbook_amounts_equal_the_file_to_the_cent(handbook_day: Imported) -> None:
    """Binary floats of the file come out as whole cents, in the order of TRANSACTION_ID inside a second."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(DATA / "handbook_2018-07.parquet")
    day = pc.strftime(table["TX_DATETIME"], format="%Y-%m-%d")
    rows = table.filter(pc.equal(day, "2018-07-18")).sort_by(
        [("TX_DATETIME", "ascending"), ("TRANSACTION_ID", "ascending")]
    )
    wanted = [round(amount * 100) for amount in rows["TX_AMOUNT"].to_pylist()]
    assert [row["payload"]["amount_minor"] for row in handbook_day.world.rows("traffic")] == wanted


def test_handbook_truth_comes_seven_days_late(handbook_day: Imported) -> None:
    """The day's 90 frauds are observed a week later."""
    labels = list(handbook_day.world.rows(TRUTH))
    assert len(labels) == 90
    assert {label["occurred_at"][:10] for label in labels} == {"2018-07-25"}


def test_the_sealed_worlds_verify(pcard: Imported, handbook_day: Imported) -> None:
    """Both worlds give their fingerprint again from their content."""
    pcard.world.verify()
    handbook_day.world.verify()
