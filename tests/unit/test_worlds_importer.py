"""Importing: every row accounted for, amounts exact, order total, no card number inside."""

from __future__ import annotations

import gzip
import random
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_daemons.domain.envelope import TRUTH
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.importer import Imported, import_world
from fraud_daemons.worlds.mapping import AmountRule, ColumnMapping, load_mapping
from fraud_daemons.worlds.normaliser import RowReject, Selection, read_amount

MAPPING = """
source = "shop"
currency = "USD"
[row]
id = "id"
tie_break = "id"
tie_break_as = "integer"
[time]
column = "at"
format = "%Y-%m-%d %H:%M:%S"
zone = "America/New_York"
[amount]
column = "amount"
decimals = 2
[fields]
message_type = { constant = "0100" }
card_token = { column = "card", token = true, prefix = "c-", required = true }
merchant_id = { column = "shop" }
channel = { column = "how", values = { web = "ECOM" } }
[truth]
fraud_column = "fraud"
fraud_values = ["Y"]
honest_values = ["N", ""]
delay_days = 3
"""
HEADER = "id,at,amount,card,shop,how,fraud"
GOOD_ROW = "1,2020-02-01 10:00:00,12.50,77,M1,web,N"


@pytest.fixture(scope="session")
def mapping(tmp_path_factory: pytest.TempPathFactory) -> ColumnMapping:
    path = tmp_path_factory.mktemp("mapping") / "shop.toml"
    path.write_text(MAPPING)
    return load_mapping(path)


def imported(mapping: ColumnMapping, folder: Path, *lines: str, name: str = "w", **selection: object) -> Imported:
    file = folder / "file.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n")
    return import_world(
        file, mapping=mapping, worlds_dir=folder / "worlds", name=name, selection=Selection(**selection)
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2,2020-02-30 10:00:00,1,77,,,N", "time cannot be read: 2020-02-30 10:00:00"),
        ("2,,1,77,,,N", "time is blank"),
        ("2,2020-03-08 02:30:00,1,77,,,N", "time does not exist in its zone: 2020-03-08T02:30:00"),
        ("2,1900-02-01 10:00:00,1,77,,,N", "time is before 1970: 1900-02-01T10:00:00"),
        ("2,2020-02-01 10:00:00,,77,,,N", "amount is blank"),
        ("2,2020-02-01 10:00:00,abc,77,,,N", "amount is no plain number: abc"),
        ("2,2020-02-01 10:00:00,NaN,77,,,N", "amount is no plain number: NaN"),
        ("2,2020-02-01 10:00:00,1e3,77,,,N", "amount is no plain number: 1e3"),
        ("2,2020-02-01 10:00:00,1.005,77,,,N", "amount has more decimals than the currency: 1.005"),
        ("2,2020-02-01 10:00:00,0,77,,,N", "amount is below the minimum: 0; the mapping's minimum_minor is 1"),
        ("2,2020-02-01 10:00:00,-5,77,,,N", "amount is below the minimum: -5; the mapping's minimum_minor is 1"),
        ("2,2020-02-01 10:00:00,99999999999999,77,,,N", "amount is beyond any payment: 99999999999999"),
        ("2,2020-02-01 10:00:00,1,,,,N", "card_token is blank"),
        (
            "2,2020-02-01 10:00:00,1,4111111111111111,,,N",
            "card_token looks like a card number: tokenise it at its source",
        ),
        ("2,2020-02-01 10:00:00,1,77,,phone,N", "channel has an unknown value: phone"),
        (f"2,2020-02-01 10:00:00,1,77,{'M' * 65},,N", "merchant_id is too long: 65 characters, 64 fit"),
        ("2,2020-02-01 10:00:00,1,77,A\x07B,,N", "merchant_id holds a control character"),
        ("2,2020-02-01 10:00:00,1,77,,,maybe", "fraud flag has an unknown value: maybe"),
        (",2020-02-01 10:00:00,1,77,,,N", "tie-break is blank"),
        ("x,2020-02-01 10:00:00,1,77,,,N", "tie-break is no whole number: x"),
        ("1,2020-02-01 10:00:01,1,77,,,N", "row identity seen before: 1 is on line 2 already"),
        ("2,2020-02-01 10:00:00,1,77,,,N,extra", "wrong number of fields: 8 instead of 7"),
        ("2,2020-02-01", "wrong number of fields: 2 instead of 7"),
        ("", "wrong number of fields: 0 instead of 7"),
    ],
)
def test_a_bad_row_is_kept_with_its_line_and_reason(
    row: str, reason: str, mapping: ColumnMapping, tmp_path: Path
) -> None:
    """Each kind of bad row goes to the rejects with its line and reason; its good neighbours become transactions."""
    result = imported(mapping, tmp_path, GOOD_ROW, row, "9,2020-02-01 10:00:00,1.00,77,,,N")
    (reject,) = result.world.rejects()
    assert (reject["line"], reject["reason"]) == (3, reason)
    assert (result.account.rows, result.account.transactions, result.account.rejects) == (3, 2, 1)
    assert result.world.manifest.rejects == 1


def test_a_card_number_is_not_even_in_the_rejects(mapping: ColumnMapping, tmp_path: Path) -> None:
    """The raw row of a reject is evidence, with card numbers masked; no file of the world holds one."""
    result = imported(mapping, tmp_path, GOOD_ROW, "2,2020-02-01 10:00:00,1,4111111111111111,,,N")
    (reject,) = result.world.rejects()
    assert reject["row"]["card"] == "411111******1111"
    assert all(b"4111111111111111" not in path.read_bytes() for path in result.world.path.iterdir())


def test_bytes_that_are_no_utf8_reject_their_row_only(mapping: ColumnMapping, tmp_path: Path) -> None:
    """One row in another encoding is a reject and stays readable; the file around it is imported."""
    file = tmp_path / "file.csv"
    file.write_bytes(f"{HEADER}\n{GOOD_ROW}\n".encode() + b"2,2020-02-01 10:00:00,1,77,Caf\xe9,,N\n")
    result = import_world(file, mapping=mapping, worlds_dir=tmp_path / "worlds", name="w")
    (reject,) = result.world.rejects()
    assert reject["reason"] == "not UTF-8"
    assert reject["row"]["shop"] == "Caf\\udce9"


def test_a_row_becomes_what_the_mapping_says(mapping: ColumnMapping, tmp_path: Path) -> None:
    """Time in its zone, amount in minor units, token with its prefix, translation, blanks as null, id from the row."""
    world = imported(mapping, tmp_path, GOOD_ROW, "2,2020-07-01 10:00:00,3,77,,,Y").world
    first = world.read("traffic", 0, 1)[0]
    assert first["occurred_at"] == "2020-02-01T15:00:00.000000Z"
    assert first["payload"] == {
        "flow_id": derived_id("flow", "shop", "1"), "amount_minor": 1250, "currency": "USD", "message_type": "0100",
    }  # fmt: skip
    anchors = [row["payload"] for row in world.rows("flow_anchors")]
    assert anchors[0]["card_token"] == "c-" + derived_id("card_token", "shop", "77") == anchors[1]["card_token"]
    assert (anchors[0]["merchant_id"], anchors[1]["merchant_id"], anchors[0]["device_id"]) == ("M1", None, None)
    assert [row["payload"]["channel"] for row in world.rows("arrival_events")] == ["ECOM", None]
    assert world.read("traffic", 1, 1)[0]["occurred_at"] == "2020-07-01T14:00:00.000000Z"  # summer time


def test_truth_is_observed_after_its_delay_and_only_frauds_speak(mapping: ColumnMapping, tmp_path: Path) -> None:
    """A fraud is labelled three days later as the mapping says; honest rows get no label unless it asks for them."""
    world = imported(mapping, tmp_path, GOOD_ROW, "2,2020-02-01 11:00:00,3,77,,,Y").world
    (label,) = world.rows(TRUTH)
    assert label["occurred_at"] == "2020-02-04T16:00:00.000000Z"
    assert (label["payload"]["fraud"], label["payload"]["flow_id"]) == (True, derived_id("flow", "shop", "2"))


@given(seed=st.integers(0, 10**6), count=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_order_does_not_depend_on_the_file(
    seed: int, count: int, mapping: ColumnMapping, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Shuffled rows give the same fingerprint: order is (time, tie-break), ties by number and not by text."""
    dice = random.Random(seed)
    lines = [f"{n},2020-02-01 10:00:0{dice.randrange(3)},{n}.00,{n % 5},M{n % 2},,N" for n in range(1, count + 1)]
    shuffled = dice.sample(lines, len(lines))
    folder = tmp_path_factory.mktemp("order")
    world = imported(mapping, folder, *lines, name="a").world
    assert imported(mapping, folder, *shuffled, name="b").world.fingerprint == world.fingerprint
    keys = [(row["occurred_at"], row["payload"]["amount_minor"]) for row in world.rows("traffic")]
    assert keys == sorted(keys)


def test_dates_and_limit_are_accounted_for(mapping: ColumnMapping, tmp_path: Path) -> None:
    """Days are local and both included; rows outside and beyond the limit are counted, and flows keep their ids."""
    lines = [f"{n},2020-02-{n:02d} 23:30:00,1.00,77,M,,N" for n in range(1, 11)]
    result = imported(mapping, tmp_path, *lines, from_date=date(2020, 2, 3), to_date=date(2020, 2, 8), limit=4)
    account = result.account
    assert (account.rows, account.transactions, account.outside_dates, account.beyond_limit) == (10, 4, 4, 2)
    assert list(result.world.flow_ids()) == [derived_id("flow", "shop", str(n)) for n in (3, 4, 5, 6)]
    assert [row["payload"]["arrival_seq"] for row in result.world.rows("arrival_events")] == [1, 2, 3, 4]


def test_gzip_parquet_and_csv_give_the_same_world(mapping: ColumnMapping, tmp_path: Path) -> None:
    """The same rows have the same fingerprint, whatever kind of file they come in."""
    from datetime import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = imported(mapping, tmp_path, GOOD_ROW, "2,2020-02-01 10:00:00,0.10,78,,,Y").world
    packed = tmp_path / "file.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "file.csv").read_bytes()))
    at = pa.array([datetime(2020, 2, 1, 10)] * 2, pa.timestamp("ns"))
    columns = {
        "id": [1, 2], "at": at, "amount": [12.5, 0.1], "card": [77.0, 78.0],
        "shop": ["M1", None], "how": ["web", None], "fraud": ["N", "Y"],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "file.parquet")
    for name, file in (("gz", packed), ("pq", tmp_path / "file.parquet")):
        world = import_world(file, mapping=mapping, worlds_dir=tmp_path / "worlds", name=name).world
        assert world.fingerprint == plain.fingerprint


def test_a_missing_column_is_reported_with_all_others(mapping: ColumnMapping, tmp_path: Path) -> None:
    """A mapping for another file names every missing column and what the file has."""
    file = tmp_path / "other.csv"
    file.write_text("id,at,betrag\n1,x,2\n")
    with pytest.raises(ConfigurationError) as caught:
        import_world(file, mapping=mapping, worlds_dir=tmp_path / "worlds", name="w")
    assert len(caught.value.problems) == 6
    assert "amount.column = 'amount'" in str(caught.value)
    assert "id, at, betrag" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("f.csv", b"", "0 bytes"),
        ("f.csv", f"{HEADER}\n".encode(), "no rows"),
        ("f.csv", f"{HEADER}\n1,x,1,77,,,N\n".encode(), r"none of its 1 rows (.|\n)*time cannot be read \(1\)"),
        ("f.csv", b"a,a\n1,2\n", "columns with the same name: a"),
        ("f.csv.gz", b"no gzip at all", "damaged or cut off"),
        ("f.csv.gz", gzip.compress(f"{HEADER}\n{GOOD_ROW}\n".encode() * 99, mtime=0)[:-20], "damaged or cut off"),
        ("f.csv.gz", gzip.compress(b"", mtime=0), "not even a header"),
        ("f.parquet", b"PAR1 but not really", "no readable Parquet"),
        ("f.xlsx", b"x", "known endings: .csv, .csv.gz, .parquet"),
        ("missing.csv", None, "no such file"),
    ],
)
def test_a_file_that_is_no_file_of_rows_is_refused(
    name: str, content: bytes | None, problem: str, mapping: ColumnMapping, tmp_path: Path
) -> None:
    """Empty, damaged, unknown and absent files each get their own sentence, and leave no world."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        import_world(tmp_path / name, mapping=mapping, worlds_dir=tmp_path / "worlds", name="w")
    assert not (tmp_path / "worlds" / "w").exists()


@given(minor=st.integers(1, 10**11))
def test_amounts_are_exact_as_text_and_as_float(minor: int) -> None:
    """Minor units survive text exactly, and a binary float multiplied by five within its noise."""
    rule = AmountRule(column="a", decimals=2, minimum_minor=1, float_noise_minor_max=0.000001)
    assert read_amount(str(Decimal(minor) / 100), rule) == minor
    if minor < 10**7:
        assert read_amount(minor / 100 * 5, rule) == minor * 5


def test_noise_is_for_floats_only() -> None:
    """The text 914.1500000000001 is a bad amount; only a binary float may be that far off."""
    rule = AmountRule(column="a", decimals=2, minimum_minor=1, float_noise_minor_max=0.000001)
    assert read_amount(914.1500000000001, rule) == 91415
    for wrong in ("914.1500000000001", 914.151):
        with pytest.raises(RowReject):
            read_amount(wrong, rule)
