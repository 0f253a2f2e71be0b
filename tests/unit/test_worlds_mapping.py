"""Mappings: every mistake named, all of them at once, no misspelt option a silent default."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_daemons.errors import ConfigurationError
from fraud_daemons.worlds.mapping import find_mapping, load_mapping

MAPPINGS = Path(__file__).parents[2] / "config" / "mappings"

GOOD = """
source = "shop"
currency = "USD"
[row]
id = "id"
[time]
column = "at"
format = "iso"
[amount]
column = "amount"
decimals = 2
[fields]
message_type = { constant = "0100" }
card_token = { column = "card" }
"""


def problems_of(text: str, folder: Path) -> tuple[str, ...]:
    path = folder / "m.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_mapping(path)
    return caught.value.problems


@pytest.mark.parametrize("name", ["handbook", "pcard"])
def test_the_shipped_mappings_load(name: str) -> None:
    """`handbook` and `pcard` are found by name and are right."""
    assert load_mapping(find_mapping(name, MAPPINGS)).source == name


def test_a_mapping_is_a_path_too(tmp_path: Path) -> None:
    """What is not a shipped name is a path."""
    (tmp_path / "own.toml").write_text(GOOD)
    assert load_mapping(find_mapping(str(tmp_path / "own.toml"), MAPPINGS)).name == "own"


def test_an_unknown_mapping_names_the_shipped() -> None:
    """A misspelt name is answered with the names there are."""
    with pytest.raises(ConfigurationError, match="known: handbook, pcard"):
        find_mapping("handbok", MAPPINGS)


def test_unknown_and_missing_keys_are_reported_together(tmp_path: Path) -> None:
    """Four mistakes in four tables give four problems."""
    text = (
        GOOD.replace('id = "id"', 'ids = "id"').replace("decimals = 2", 'decimals = "2"').replace("card_token", "pan")
    )
    found = problems_of(text, tmp_path)
    assert [problem.split(":")[0] for problem in found] == ["row.ids", "row.id", "amount.decimals = '2'", "fields.pan"]


def test_wrong_values_are_reported_together(tmp_path: Path) -> None:
    """Values of the right type are judged too, all of them."""
    text = (
        GOOD.replace('"shop"', '"My Shop"')
        .replace('"USD"', '"usd"')
        .replace('"iso"', '"%Q"')
        .replace("decimals = 2", "decimals = 9")
        .replace('message_type = { constant = "0100" }', "")
        .replace('{ column = "card" }', '{ column = "card", constant = "x" }')
    )
    assert [problem.split()[0].rstrip(":") for problem in problems_of(text, tmp_path)] == [
        "source", "currency", "time.format", "amount.decimals", "fields.card_token", "fields.message_type",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('zone = "Mars/Olympus"', "time.zone"),
        ('zone = "../etc"', "time.zone"),
        ("[truth]\nfraud_column = 'f'", "truth.fraud_values"),
        ("[truth]\nfraud_column='f'\nfraud_values=['1']\nhonest_values=['1']\ndelay_days=7", "share nothing"),
        ("[truth]\nfraud_column='f'\nfraud_values=['1']\nhonest_values=['0']\ndelay_days=-1", "truth.delay_days"),
        (
            "[truth]\nfraud_column='f'\nfraud_values=['1']\nhonest_values=['0']\ndelay_days=1\nlabels='x'",
            "truth.labels",
        ),
    ],
)
def test_zone_and_truth_are_checked(line: str, problem: str, tmp_path: Path) -> None:
    """A time zone that is not there and truth that contradicts itself are refused before a row is read."""
    text = GOOD.replace("[amount]", f"{line}\n[amount]")
    assert any(problem in found for found in problems_of(text, tmp_path))


def test_broken_toml_is_a_configuration_error(tmp_path: Path) -> None:
    """A file that is no TOML says so."""
    assert "not valid TOML" in problems_of("source = ", tmp_path)[0]
