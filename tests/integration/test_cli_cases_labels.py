"""platform cases, labels, deadletters: the JSON others rely on, pages, and errors that name what is unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fraud_daemons.cli.main import run
from fraud_daemons.workers.case_labels import case_management, label_store
from tests.case_labels_records import at, flow, trigger, truth
from tests.line import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.line import Line

Say = Callable[..., dict[str, Any]]


@pytest.fixture
def platform(
    line: Line, short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command, on the line's database: (exit code, stdout, stderr)."""
    monkeypatch.setenv("PLATFORM_DSN", line.dsn)
    monkeypatch.setenv("PLATFORM_PROFILE_RUN_DIR", str(short_dir))

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what the workers of this process have logged so far is not the command's
        code = run(["--root", str(ROOT), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def say(platform: Callable[..., tuple[int, str, str]]) -> Say:
    """The command's JSON; it must succeed and say nothing else."""

    def call(*words: str) -> dict[str, Any]:
        code, out, err = platform(*words, "--json")
        assert (code, err) == (0, "")
        answer: dict[str, Any] = json.loads(out)
        return answer

    return call


def open_cases(line: Line, count: int) -> list[dict[str, Any]]:
    """`count` triggers over three cards, placed; in the order in which they stand."""
    line.begin_run()
    line.append("case_triggers", [trigger(n, run=line.run, card=f"card{n % 3}") for n in range(count)])
    line.work(case_management.WORKER)
    return line.bodies("case_triggers")


def test_cases_as_the_command_shows_them_equal_the_merge_rule(line: Line, say: Say) -> None:
    """From outside: list and show give one case per subject with exactly its triggers, in their order."""
    triggers = open_cases(line, 10)
    listed = say("cases", "list")
    assert listed["platform_run_id"] == line.run
    shown = {}
    for case in listed["cases"]:
        timeline = say("cases", "show", case["case_id"])["timeline"]
        assert [entry["kind"] for entry in timeline] == ["OPENED"] + ["MERGED"] * (case["triggers"] - 1)
        shown[case["subject"]] = [entry["trigger_id"] for entry in timeline]
    assert shown == {
        card: [t["trigger_id"] for t in triggers if t["subject"] == card] for card in ("card0", "card1", "card2")
    }


def test_pages_of_cases_join_without_gap_or_repeat(line: Line, say: Say) -> None:
    """--limit and --after walk through all cases; `next` is null on the last page."""
    open_cases(line, 10)
    first = say("cases", "list", "--limit", "2")
    second = say("cases", "list", "--limit", "2", "--after", first["next"])
    assert second["next"] is None
    pages = [case["case_id"] for page in (first, second) for case in page["cases"]]
    assert pages == [case["case_id"] for case in say("cases", "list")["cases"]]


def test_a_label_is_unknown_before_it_was_observed_and_known_after(line: Line, say: Say) -> None:
    """`labels as-of` before the observed time is empty; a correction supersedes, and the history shows both."""
    line.begin_run()
    line.append(
        "truth",
        [truth(1, fraud=True, run=line.run), truth(1, fraud=False, run=line.run, observed=2000, correction=1)],
    )
    line.work(label_store.WORKER)
    before = say("labels", "as-of", flow(1), "--at", at(1000))
    assert (before["label"], before["known"]) == (None, [])
    between = say("labels", "as-of", flow(1), "--at", at(1001))
    assert between["label"]["value"] == "FRAUD"
    after = say("labels", "as-of", flow(1), "--at", at(2000))
    assert after["label"]["value"] == "LEGIT"
    assert after["label"]["supersedes"] == between["label"]["label_id"]
    assert [label["value"] for label in after["known"]] == ["FRAUD", "LEGIT"]
    assert say("labels", "as-of", flow(1))["label"]["value"] == "LEGIT", "without --at: now"


def test_pages_of_labels_join_in_the_order_of_observation(line: Line, say: Say) -> None:
    """`labels list` pages by observed time; --at leaves out what was not known yet."""
    line.begin_run()
    line.append("truth", [truth(n, fraud=True, run=line.run) for n in range(9)])
    line.work(label_store.WORKER)
    seen: list[str] = []
    after: list[str] = []
    while True:
        page = say("labels", "list", "--limit", "4", *after)
        seen += [label["observed_time"] for label in page["labels"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert seen == [at(1000 + n) for n in range(9)]
    assert len(say("labels", "list", "--at", at(1003))["labels"]) == 4


def test_dead_letters_are_listed_and_shown_with_their_record(line: Line, say: Say) -> None:
    """A broken trigger can be found, read whole, and paged; its reason says what was missing."""
    line.begin_run()
    line.append("case_triggers", [{**trigger(n, run=line.run, card="c"), "subject": None} for n in range(3)])
    line.work(case_management.WORKER)
    listed = say("deadletters", "list")["letters"]
    assert [(letter["worker"], letter["state"]) for letter in listed] == [("case_management", "DEAD")] * 3
    first = say("deadletters", "list", "--limit", "2")
    rest = say("deadletters", "list", "--limit", "2", "--after", first["next"])
    assert [letter["letter"] for letter in first["letters"] + rest["letters"]] == [x["letter"] for x in listed]
    shown = say("deadletters", "show", listed[0]["letter"])
    assert shown["body"]["subject"] is None
    assert "subject" in shown["detail"]
    assert say("deadletters", "list", "--worker", "label_store")["letters"] == []


def test_people_read_the_same_in_lines(line: Line, platform: Callable[..., tuple[int, str, str]]) -> None:
    """Without --json: aligned lines that name the case, the label and the letter."""
    open_cases(line, 4)
    line.append("truth", [truth(1, fraud=True, run=line.run)])
    line.append("case_triggers", [{**trigger(9, run=line.run, card="c"), "subject": None}])
    line.work(case_management.WORKER)
    line.work(label_store.WORKER)
    code, out, _ = platform("cases", "list")
    assert code == 0
    assert out.splitlines()[0].split() == ["CASE", "STATUS", "SUBJECT", "TRIGGERS", "OPENED", "ASSIGNEE", "DISPOSITION"]
    case = out.splitlines()[1].split()[0]
    assert "OPENED" in platform("cases", "show", case)[1]
    assert "no label was known" in platform("labels", "as-of", flow(1), "--at", at(1))[1]
    assert "FRAUD" in platform("labels", "as-of", flow(1), "--at", at(5000))[1]
    assert "FRAUD" in platform("labels", "list")[1]
    assert "case_management:case_triggers" in platform("deadletters", "list")[1]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["cases", "show", "nowhere"], 1, "no case 'nowhere'"),
        (["cases", "list", "--after", "nowhere"], 1, "no case 'nowhere'"),
        (["cases", "list", "--run", "platform_19990101T000000Z"], 1, "platform_19990101T000000Z"),
        (["cases", "list", "--limit", "0"], 2, "--limit"),
        (["cases", "show", "x", "--after", "y"], 2, "entry number"),
        (["labels", "as-of", "nowhere"], 1, "no flow 'nowhere'"),
        (["labels", "as-of", "nowhere", "--at", "noon"], 2, "noon"),
        (["labels", "as-of", "nowhere", "--at", "2018-07-18T00:00:00"], 2, "no time zone"),
        (["labels", "list", "--after", "nowhere"], 1, "no label 'nowhere'"),
        (["deadletters", "show", "a:b:0:1"], 1, "no dead letter a:b:0:1"),
        (["deadletters", "show", "rubbish"], 2, "WORKER:TOPIC:PARTITION:POSITION"),
        (["trace", "nowhere"], 1, "'nowhere'"),
    ],
)
def test_what_is_unknown_is_named_in_one_line(
    line: Line, platform: Callable[..., tuple[int, str, str]], words: list[str], code: int, says: str
) -> None:
    """Every unknown id, run, time or page is refused by name: 1 = not there, 2 = not written right."""
    line.begin_run()
    answer, _, errors = platform(*words)
    assert answer == code
    assert says in errors
    assert len(errors.strip().splitlines()) == 1


def test_without_a_run_the_way_to_begin_one_is_told(platform: Callable[..., tuple[int, str, str]]) -> None:
    """Before the first run every listing says how to begin one."""
    for words in (["cases", "list"], ["labels", "list"], ["deadletters", "list"], ["trace", "x"]):
        code, _, errors = platform(*words)
        assert code == 1
        assert "platform run new" in errors
