"""Every list alike: JSON, filters that leave exactly what they say, pages that add up to the whole, bad words in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fraud_daemons.workers.case_labels import case_management, case_trigger
from fraud_daemons.workers.decision_lane import decision_fabric
from tests.integration import test_case_changes
from tests.integration.lane import bind, flow, pin
from tests.integration.test_case_changes import Platform, working
from tests.line import Line

platform = test_case_changes.platform
Row = dict[str, Any]
NOTHING = "f" * 32


@pytest.fixture
def filled(line: Line, platform: Platform) -> Line:
    """Forty decisions under two postures, their cases (one assigned, one resolved), dead letters of two workers, three runs."""
    for number, live in ((1, True), (2, False)):
        line.begin_run(f"platform_2025010{number}T000000Z", live=live)
        line.clock.advance(1)
    line.begin_run()
    pin(line, "NORMAL")
    line.append("flows.featured", bind(line, [flow(n, cards=7, traffic={"amount_minor": 60_000 if n % 4 else 600_000}) for n in range(20)]))  # fmt: skip
    line.work(decision_fabric.WORKER)
    line.clock.advance(timedelta(minutes=1).total_seconds())
    pin(line, "DEGRADED_2")
    broken = [{**flow(n), "traffic": None} for n in (90, 91, 92)]
    line.append("flows.bound", [*(flow(n, cards=7) for n in range(20, 40)), *broken])
    line.work(decision_fabric.WORKER)
    line.work(case_trigger.WORKER)
    line.append("case_triggers", [{"trigger_id": "broken", "platform_run_id": line.run}])
    line.work(case_management.WORKER)
    first, second = [
        case for (case,) in line.sql("select case_id from case_mgmt.cases order by opened_at, case_id limit 2")
    ]
    with working(line):
        assert platform("cases", "assign", first, "--to", "bob", "--actor", "ada")[0] == 0
        assert platform("cases", "resolve", second, "--disposition", "legit", "--actor", "ada")[0] == 0
    return line


def rows(platform: Platform, field: str, *words: str) -> tuple[list[Row], str | None]:
    code, out, err = platform(*words, "--json")
    assert (code, err) == (0, ""), words
    document = json.loads(next(text for text in out.splitlines() if text.startswith("{")))
    return document[field], document["next"]


LISTS: list[tuple[str, str, str]] = [
    ("run", "runs", "platform_run_id"),
    ("decisions", "decisions", "decision_id"),
    ("cases", "cases", "case_id"),
    ("deadletters", "letters", "letter"),
]


def test_pages_add_up_to_the_whole(filled: Line, platform: Platform) -> None:
    """For each list: pages of two give the lines of one big page, in its order, each once; the last says there is no more."""
    for command, field, key in LISTS:
        every, more = rows(platform, field, command, "list", "--limit", "1000")
        assert more is None
        assert len(every) >= 3, command
        paged: list[str] = []
        after: str | None = None
        for _ in range(len(every)):
            page, after = rows(platform, field, command, "list", "--limit", "2", *(("--after", after) if after else ()))
            paged += [row[key] for row in page]
            if after is None:
                break
        assert paged == [row[key] for row in every], command


FILTERS: list[tuple[str, str, tuple[str, ...], Callable[[Row], bool]]] = [
    ("run", "runs", ("--live",), lambda row: row["live"]),
    ("run", "runs", ("--replay",), lambda row: not row["live"]),
    ("decisions", "decisions", ("--outcome", "block"), lambda row: row["outcome"] == "BLOCK"),
    ("decisions", "decisions", ("--posture", "degraded_2"), lambda row: row["posture_mode"] == "DEGRADED_2"),
    ("decisions", "decisions", ("--features", "present"), lambda row: row["feature_status"] == "PRESENT"),
    ("decisions", "decisions", ("--flow", "flow7"), lambda row: row["flow_id"] == "flow7"),
    ("decisions", "decisions", ("--card", "card3"), lambda row: int(row["flow_id"][4:]) % 7 == 3),
    ("decisions", "decisions", ("--posture", "NORMAL", "--card", "card3"),
     lambda row: row["posture_mode"] == "NORMAL" and int(row["flow_id"][4:]) % 7 == 3),
    ("cases", "cases", ("--status", "open"), lambda row: row["status"] == "OPEN"),
    ("cases", "cases", ("--disposition", "legit"), lambda row: row["disposition"] == "LEGIT"),
    ("cases", "cases", ("--assignee", "bob"), lambda row: row["assignee"] == "bob"),
    ("cases", "cases", ("--unassigned",), lambda row: row["assignee"] is None),
    ("cases", "cases", ("--subject", "card4"), lambda row: row["subject"] == "card4"),
    ("deadletters", "letters", ("--worker", "case_management"), lambda row: row["worker"] == "case_management"),
    ("deadletters", "letters", ("--state", "skipped"), lambda row: row["state"] == "SKIPPED"),
]  # fmt: skip


def test_a_filter_leaves_exactly_what_it_says(filled: Line, platform: Platform) -> None:
    """For each filter: the lines of the whole list for which it holds, some and not all of them; paging keeps to it."""
    letter = rows(platform, "letters", "deadletters", "list", "--limit", "1")[0][0]["letter"]
    assert platform("deadletters", "skip", letter, "--reason", "a test")[0] == 0
    key_of = {field: key for _, field, key in LISTS}
    for command, field, words, holds in FILTERS:
        key = key_of[field]
        every = [row[key] for row in rows(platform, field, command, "list", "--limit", "1000")[0]]
        expected = [row[key] for row in rows(platform, field, command, "list", "--limit", "1000")[0] if holds(row)]
        found = [row[key] for row in rows(platform, field, command, "list", "--limit", "1000", *words)[0]]
        assert found == expected, (command, words)
        assert 0 < len(found) < len(every), f"{command} {words} tells nothing apart"
        page, after = rows(platform, field, command, "list", "--limit", "1", *words)
        assert [row[key] for row in page] == expected[:1]
        assert after is not None
        behind, _ = rows(platform, field, command, "list", "--limit", "1", "--after", after, *words)
        assert [row[key] for row in behind] == expected[1:2]


BAD: list[tuple[tuple[str, ...], int, str]] = [
    (("run", "list", "--after", "platform_19990101T000000Z"), 1, "there is no run"),
    (("run", "list", "--limit", "0"), 2, "--limit"),
    (("run", "show", "platform_19990101T000000Z"), 1, "there is no run"),
    (("decisions", "list", "--after", NOTHING), 1, "no decision"),
    (("decisions", "list", "--outcome", "PERHAPS"), 2, "--outcome"),
    (("decisions", "list", "--posture", "CALM"), 2, "--posture"),
    (("decisions", "list", "--features", "SOME"), 2, "--features"),
    (("decisions", "list", "--since", "yesterday"), 2, "--since"),
    (("decisions", "list", "--limit", "many"), 2, "--limit"),
    (("decisions", "list", "--limit", "10001"), 2, "--limit"),
    (("decisions", "list", "--run", "platform_19990101T000000Z"), 1, "no run"),
    (("decisions", "show", NOTHING), 1, "no decision"),
    (("explain", NOTHING), 1, "no decision"),
    (("cases", "list", "--after", NOTHING), 1, "no case"),
    (("cases", "list", "--status", "HALF"), 2, "--status"),
    (("cases", "list", "--disposition", "GUILTY"), 2, "--disposition"),
    (("cases", "list", "--assignee", "bob", "--unassigned"), 2, "exclude"),
    (("cases", "list", "--run", "platform_19990101T000000Z"), 1, "no run"),
    (("cases", "show", NOTHING), 1, "no case"),
    (("cases", "show", NOTHING, "--after", "x"), 2, "no entry number"),
    (("deadletters", "list", "--after", "a:b:0:1"), 1, "no dead letter"),
    (("deadletters", "list", "--after", "a:b"), 2, "is no letter"),
    (("receipts", "show", NOTHING), 1, "has admitted no event"),
    (("trace", NOTHING), 1, NOTHING),
    (("decisions", "list", "--page", "3"), 2, "--page"),
]


def test_bad_words_are_one_line_and_no_answer(filled: Line, platform: Platform) -> None:
    """Unknown ids are 1, filters and pages that mean nothing 2: one line on stderr that names the word, nothing on stdout;
    with --json the same as an object."""
    for words, code, message in BAD:
        found, out, err = platform(*words)
        assert (found, out, err.count("\n")) == (code, "", 1), (words, err)
        assert message in err, words
        found, out, _ = platform(*words, "--json")
        assert found == code
        assert message in json.loads(out)["error"]
        assert json.loads(out)["exit_code"] == code
