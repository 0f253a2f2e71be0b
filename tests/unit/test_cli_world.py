"""platform world: the JSON others rely on, the sentences people read, the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.cli.world import world_name_of

ROOT = Path(__file__).parents[2]
HEADER = "recnum,cardnum,date,merchnum,merch_description,merch_state,merch_zip,transtype,amount,fraud_scheme,fraud"


@pytest.fixture(autouse=True)
def own_run_dir(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> Path:
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))
    return short_dir


def platform(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(["--root", str(ROOT), "world", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_list_has_the_promised_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """`world list --json` is {"worlds": [{world, transactions, fingerprint, source}]}; empty before the first."""
    assert json.loads(platform(capsys, "list", "--json")[1])["worlds"] == []
    made = json.loads(platform(capsys, "make", "demo", "--transactions", "30", "--json")[1])
    listed = json.loads(platform(capsys, "list", "--json")[1])["worlds"]
    assert listed == [{"world": "demo", "transactions": 30, "fingerprint": made["fingerprint"], "source": "generator"}]


def test_making_twice_is_good_and_another_seed_is_78(capsys: pytest.CaptureFixture[str]) -> None:
    """The same world again is exit 0; other content under its name is a configuration fault that names the way out."""
    assert platform(capsys, "make", "--transactions", "30")[0] == 0
    assert platform(capsys, "make", "--transactions", "30")[0] == 0
    code, _, errors = platform(capsys, "make", "--transactions", "30", "--seed", "2")
    assert code == 78
    assert "take another name" in errors


def test_import_answers_with_the_account(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A bad row is in the answer with its reason, and the text names the file of rejects."""
    file = tmp_path / "Purchase Cards.csv"
    file.write_text(f"{HEADER}\n1,51,2010-01-01,,A,TN,38118,P,3.67,,0\n2,51,2010-01-01,,A,TN,38118,Q,3.67,,0\n")
    answer = json.loads(platform(capsys, "import", str(file), "--mapping", "pcard", "--json")[1])
    assert (answer["world"], answer["rows"], answer["transactions"], answer["rejects"]) == ("purchase-cards", 2, 1, 1)
    assert answer["reject_reasons"] == {"message_type has an unknown value": 1}
    code, text, _ = platform(capsys, "import", str(file), "--mapping", "pcard", "--name", "again")
    assert code == 0
    assert "rejects.ndjson" in text


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_an_empty_file_and_a_missing_column_are_78(
    content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Bad input is one clear answer and exit 78, in JSON too."""
    (tmp_path / "f.csv").write_text(content)
    code, out, _ = platform(capsys, "import", str(tmp_path / "f.csv"), "--mapping", "pcard", "--json")
    assert code == 78 == json.loads(out)["exit_code"]


def test_show_and_list_say_when_a_world_was_changed(capsys: pytest.CaptureFixture[str], own_run_dir: Path) -> None:
    """A changed data file is 78 for show; a changed manifest is seen by list, which says no."""
    platform(capsys, "make", "w", "--transactions", "30")
    assert json.loads(platform(capsys, "show", "w", "--verify", "--json")[1])["verified"] is True
    (own_run_dir / "worlds" / "w" / "traffic.blocks").write_bytes(b"x")
    assert platform(capsys, "show", "w")[0] == 78
    (own_run_dir / "worlds" / "w" / "world.json").write_bytes(b"{}")
    code, out, _ = platform(capsys, "list", "--json")
    assert code == 1
    assert [one["world"] for one in json.loads(out)["damaged"]] == ["w"]


def test_names_of_worlds_come_from_names_of_files() -> None:
    """A file's name becomes a world's name without its endings and odd characters."""
    assert world_name_of(Path("Handbook 2018-07.csv.gz")) == "handbook-2018-07"
