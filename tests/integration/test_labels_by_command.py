"""platform labels assert and export: one owner takes what people say, and a slice knows nothing that was not known then."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from fraud_daemons.acceptance import training_slice
from fraud_daemons.domain.features import FEATURE_NAMES
from fraud_daemons.domain.label_assertions import VALUES
from fraud_daemons.workers.case_labels import label_store
from fraud_daemons.workers.decision_lane import decision_fabric
from tests.integration import test_case_changes
from tests.integration.lane import bind, flow, pin
from tests.integration.test_case_changes import Platform
from tests.line import ROOT, Line, at_work

platform = test_case_changes.platform
OCCURRED = "2018-07-18T00:00:{:02}.000000Z"
FLOWS = 12


def working(line: Line) -> AbstractContextManager[None]:
    """label_store at work, in a thread of its own."""
    return at_work(lambda: line.activities(label_store.WORKER))


@pytest.fixture
def decided(line: Line) -> Line:
    """Twelve decided flows of July 2018, the last two without features."""
    line.begin_run()
    pin(line, "NORMAL")
    bodies = [flow(n, occurred_at=OCCURRED.format(n)) for n in range(FLOWS)]
    line.append("flows.featured", bind(line, bodies[:-2]))
    line.work(decision_fabric.WORKER)
    pin(line, "DEGRADED_2")
    bind(line, bodies[-2:])
    line.work(decision_fabric.WORKER)
    assert line.sql("select count(*) from df.decisions") == [(FLOWS,)]
    return line


def said(out: str) -> dict[str, Any]:
    """The command's object; the worker in this process logs beside it."""
    found: dict[str, Any] = json.loads(next(text for text in out.splitlines() if text.startswith("{")))
    return found


def test_an_assertion_is_a_label_once_and_is_published(decided: Line, platform: Platform) -> None:
    """Every type by both sources; repeated with its time it is the same label; as-of gives the human's word first."""
    given = []
    with working(decided):
        for label_type, values in VALUES.items():
            for source in ("HUMAN", "external"):
                words = ("labels", "assert", "flow1", values[0].lower(), "--type", label_type, "--source", source,
                         "--observed", "2018-07-20T00:00:00Z", "--actor", "ada", "--json")  # fmt: skip
                code, out, err = platform(*words)
                assert (code, err) == (0, "")
                given.append(said(out)["label_id"])
                assert said(platform(*words)[1])["label_id"] == given[-1]
    assert len(set(given)) == len(VALUES) * 2
    assert sorted(body["label_id"] for body in decided.bodies("labels")) == sorted(given)
    stored = decided.sql("select label_id, source, source_ref ~ '^asserted:', effective_time = '2018-07-18 00:00:01Z' from label_store.assertions")  # fmt: skip
    assert {row[0] for row in stored} == set(given)
    assert all(row[2:] == (True, True) for row in stored)
    assert decided.sql("select asked_by, outcome, count(*) from label_store.requests group by 1, 2") == [
        ("ada", "APPLIED", 6)
    ]
    known = said(platform("labels", "as-of", "flow1", "--at", "2018-07-20T00:00:00Z", "--json")[1])
    assert (known["label"]["value"], known["label"]["source"]) == ("FRAUD", "HUMAN")
    assert said(platform("labels", "as-of", "flow1", "--at", "2018-07-19T23:59:59Z", "--json")[1])["label"] is None


def test_what_the_owner_does_not_take_is_refused_with_its_reason(decided: Line, platform: Platform) -> None:
    """Unknown flow, future, before it happened, effective after observed: 1, by the owner; unknown words: 2, by the command.
    Each in one line, and nothing is written."""
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("nobody", "FRAUD"), 1, "has decided no flow 'nobody'"),
        (("flow1", "FRAUD", "--observed", "2031-01-01T00:00:00Z"), 1, "in the future"),
        (("flow1", "FRAUD", "--observed", "2018-07-17T00:00:00Z"), 1, "before the flow occurred"),
        (("flow1", "FRAUD", "--observed", "2018-07-19T00:00:00Z", "--effective", "2018-07-20T00:00:00Z"), 1, "after it was observed"),
        (("flow1", "MAYBE"), 2, "has no value 'MAYBE'"),
        (("flow1", "FRAUD", "--type", "account_takeover"), 2, "account_takeover has no value"),
        (("flow1", "FRAUD", "--type", "guess"), 2, "--type"),
        (("flow1", "FRAUD", "--source", "AUTO"), 2, "--source"),
        (("flow1", "LEGIT", "--fraud-type", "stolen"), 2, "belongs to fraud_disposition FRAUD"),
        (("flow1", "FRAUD", "--observed", "yesterday"), 2, "yesterday"),
        (("flow1", "FRAUD", "--observed", "2018-07-20T00:00:00"), 2, "no time zone"),
        (("flow1", "FRAUD", "--run", "platform_19990101T000000Z"), 1, "no run"),
        (("", "FRAUD"), 2, "FLOW_ID"),
    ]  # fmt: skip
    with working(decided):
        for words, code, message in cases:
            found, _, err = platform("labels", "assert", *words)
            assert (found, err.count("\n")) == (code, 1), (words, err)
            assert message in err
    assert decided.sql("select count(*) from label_store.assertions") == [(0,)]
    assert decided.records("labels") == []


def labelled(line: Line, platform: Platform) -> None:
    """flow0 fraud known on the 20th, corrected by a person on the 25th; flow3 known on the 22nd; flow7 takeover only."""
    with working(line):
        for words in (
            ("flow0", "FRAUD", "--source", "EXTERNAL", "--fraud-type", "stolen", "--observed", "2018-07-20T00:00:00Z"),
            ("flow0", "LEGIT", "--source", "HUMAN", "--observed", "2018-07-25T00:00:00Z"),
            ("flow3", "FRAUD", "--source", "HUMAN", "--observed", "2018-07-22T00:00:00Z"),
            ("flow7", "CONFIRMED", "--type", "account_takeover", "--observed", "2018-07-19T00:00:00Z"),
        ):
            assert platform("labels", "assert", *words)[0] == 0


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_slice_knows_what_was_known_then_and_no_more(
    ending: str, decided: Line, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row per flow decided, features as decided on; a label observed a moment later is not in it; maturity by the horizon."""
    labelled(decided, platform)
    monkeypatch.setattr(training_slice, "decided", _in_pages_of_five(training_slice.decided))

    def export(as_of: str, name: str, *words: str) -> dict[str, dict[str, Any]]:
        file = tmp_path / f"{name}.{ending}"
        code, out, err = platform("labels", "export", str(file), "--as-of", as_of, *words, "--json")
        assert (code, err) == (0, "")
        rows = _read(file)
        assert (said(out)["rows"], said(out)["labelled"]) == (len(rows), sum(bool(row["label_id"]) for row in rows))
        return {row["flow_id"]: row for row in rows}

    before = export("2018-07-19T23:59:59.999999Z", "before")
    assert len(before) == FLOWS
    assert not any(row["label_value"] for row in before.values())
    then = export("2018-07-22T00:00:00Z", "then", "--horizon-days", "4")
    assert {f: (r["label_value"], r["label_source"]) for f, r in then.items() if r["label_value"]} == {
        "flow0": ("FRAUD", "EXTERNAL"), "flow3": ("FRAUD", "HUMAN"),
    }  # fmt: skip
    assert (then["flow0"]["label_fraud_type"], then["flow0"]["maturity"], then["flow1"]["maturity"]) == (
        "stolen", "LABELLED", "IMMATURE",
    )  # fmt: skip
    later = export("2018-08-20T00:00:00Z", "later")
    assert (later["flow0"]["label_value"], later["flow0"]["label_source"]) == ("LEGIT", "HUMAN")
    assert later["flow1"]["maturity"] == "MATURE_UNLABELLED"
    assert set(export("2018-07-18T00:00:03Z", "few")) == {f"flow{n}" for n in range(4)}
    bodies = {body["flow_id"]: body for body in decided.bodies("decisions")}
    for name in FEATURE_NAMES:
        value = (bodies["flow2"]["features"] or {})[name]
        assert (
            (then["flow2"][name] in ("", None)) if value is None else float(then["flow2"][name]) == pytest.approx(value)
        )
        assert name == "amount_minor" or then["flow11"][name] in ("", None), "decided without features"
    taken = export("2018-07-22T00:00:00Z", "taken", "--type", "account_takeover")
    assert {f: r["label_value"] for f, r in taken.items() if r["label_value"]} == {"flow7": "CONFIRMED"}


def _in_pages_of_five(decided: Any) -> Any:
    def pages(*words: Any, **named: Any) -> Any:
        for page in decided(*words, **named):
            for start in range(0, len(page), 5):
                yield page[start : start + 5]

    return pages


def _read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(file).to_pylist())
    with file.open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_disk_that_does_not_take_it_leaves_nothing_half_done(
    ending: str, decided: Line, platform: Platform, tmp_path: Path, short_dir: Path
) -> None:
    """The system refuses the bytes beyond a limit, as a full disk does: exit 1 says so, no file and no part of one is left,
    and a file that was to be replaced is as it was."""
    file = tmp_path / f"slice.{ending}"
    file.write_text("the one before")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    environment = {**os.environ, "PLATFORM_DSN": decided.dsn, "PLATFORM_PROFILE_RUN_DIR": str(short_dir)}
    done = subprocess.run(
        [sys.executable, "-B", "-m", "fraud_daemons.cli.main", "--root", str(ROOT), "labels", "export", str(file),
         "--overwrite"],
        env=environment, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limited,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "File too large; nothing was exported" in done.stderr
    assert done.stderr.count("\n") == 1
    assert file.read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert platform("labels", "export", str(file), "--overwrite")[0] == 0
    assert len(_read(file)) == FLOWS


def test_a_full_device_is_told(
    decided: Line, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own full device: its words, exit 1, nothing left."""
    opened = Path.open

    def full(self: Path, mode: str = "r", *words: Any, **named: Any) -> Any:
        return opened(Path("/dev/full") if self.name.endswith(".part") else self, mode, *words, **named)

    monkeypatch.setattr(Path, "open", full)
    code, _, err = platform("labels", "export", str(tmp_path / "slice.csv"))
    assert code == 1
    assert "No space left on device; nothing was exported" in err
    assert list(tmp_path.iterdir()) == []


def test_bad_exports_and_filters_are_refused_in_a_line(decided: Line, platform: Platform, tmp_path: Path) -> None:
    """Another ending, a file that is there, no folder, no time, no run, no page: 1 or 2, and no file comes of it."""
    (tmp_path / "there.csv").write_text("mine")
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("export", str(tmp_path / "slice.xlsx")), 2, "must end in .parquet or .csv"),
        (("export", str(tmp_path / "there.csv")), 1, "is there already"),
        (("export", str(tmp_path / "nowhere" / "slice.csv")), 1, "No such file or directory"),
        (("export", str(tmp_path / "slice.csv"), "--as-of", "2018"), 2, "--as-of"),
        (("export", str(tmp_path / "slice.csv"), "--run", "platform_19990101T000000Z"), 1, "no run"),
        (("export", str(tmp_path / "slice.csv"), "--type", "guess"), 2, "--type"),
        (("export", str(tmp_path / "slice.csv"), "--horizon-days", "-1"), 2, "--horizon-days"),
        (("list", "--type", "guess"), 2, "--type"),
        (("list", "--source", "GUESS"), 2, "--source"),
        (("list", "--after", "nothing"), 1, "no label 'nothing'"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("list", "--at", "then"), 2, "--at"),
    ]
    for words, code, message in cases:
        found, _, err = platform("labels", *words)
        assert (found, err.count("\n")) == (code, 1), (words, err)
        assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_the_list_is_filtered_and_paged(decided: Line, platform: Platform) -> None:
    """By type, value, source and flow; pages of one give the same lines as one page."""
    labelled(decided, platform)

    def values(*words: str) -> list[tuple[str, str]]:
        return [
            (row["flow_id"], row["value"]) for row in said(platform("labels", "list", *words, "--json")[1])["labels"]
        ]

    every = values()
    assert len(every) == 4
    assert values("--type", "account_takeover") == [("flow7", "CONFIRMED")]
    assert values("--value", "fraud", "--source", "human") == [("flow3", "FRAUD")]
    assert values("--flow", "flow0") == [("flow0", "FRAUD"), ("flow0", "LEGIT")]
    paged, after = [], None
    while len(paged) < 10:
        page = said(platform("labels", "list", "--limit", "1", *(("--after", after) if after else ()), "--json")[1])
        paged += [(row["flow_id"], row["value"]) for row in page["labels"]]
        after = page["next"]
        if after is None:
            break
    assert paged == every
