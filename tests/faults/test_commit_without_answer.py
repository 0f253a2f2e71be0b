"""COMMIT without an answer, at every COMMIT there is: the work is repeated, and what it does is done once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import SystemClock
from fraud_daemons.errors import CommitAmbiguous, TransientFault
from fraud_daemons.postgres_runtime.connector import DsnSource, close_thread_connections, counters
from fraud_daemons.runtime.activity import Activity, Outcome
from fraud_daemons.runtime.consumer import Consumer, Pace
from fraud_daemons.runtime.database import Database
from tests.conftest import opened_line
from tests.faults.test_killed_at_every_statement import Doubler, Setting
from tests.integration import whole_line
from tests.line import Line
from tests.proxied import proxied, through

if TYPE_CHECKING:
    from fraud_daemons.supervision.substrate.postgres import PostgresServer

COMMITS_MAX = 60
STEPS_MAX = 60
STRIKES = (Strike.COMMIT, Strike.COMMIT_ANSWER)


@pytest.fixture
def proxy(database: str) -> Iterator[WireProxy]:
    with proxied(database) as running:
        yield running
        close_thread_connections()


def as_the_loop_would(activity: Activity) -> Outcome | None:
    """One step; None when it met a transient fault: what is in memory is forgotten, the same work is next."""
    try:
        return activity.step()
    except TransientFault:
        activity.forget()
        return None


@pytest.mark.parametrize("strike", STRIKES, ids=["never arrived", "answer lost"])
@pytest.mark.parametrize("same_server", [True, False], ids=["outbox is the log", "outbox forwarded"])
def test_at_any_commit_of_a_consumer_nothing_is_lost_or_repeated(
    database: str, proxy: WireProxy, strike: Strike, same_server: bool
) -> None:
    """For each COMMIT of a drain in turn: struck there, each record is in the state once, published once and in order."""
    setting = Setting(through(proxy, database), same_server=same_server)

    def drain() -> None:
        consumer = Consumer(
            name="doubler", handler=Doubler(), topics=["in"], database=setting.database, bus=setting.bus,
            same_server=same_server, clock=SystemClock(), log=structlog.get_logger(), pace=Pace(batch_records_max=7),
        )  # fmt: skip
        idle = 0
        for _ in range(STEPS_MAX):
            outcome = as_the_loop_would(consumer)
            idle = idle + 1 if outcome and outcome.records == 0 and outcome.rest_seconds > 0 else 0
            if idle == 2:
                return
        raise AssertionError("not idle")

    fed = struck = 0
    for commit in range(COMMITS_MAX):
        setting.feed(fed, 10)
        fed += 10
        proxy.arm(strike, after=commit)
        drain()
        proxy.pass_on()
        state, published, waiting = setting.facts()
        expected = [f"e{n}" for n in range(fed)]
        assert sorted(state, key=lambda e: int(e[1:])) == expected, f"state differs after strike at COMMIT {commit}"
        assert published == expected, f"output differs after strike at COMMIT {commit}"
        assert waiting == 0
        happened = proxy.figures["commits_lost"] + proxy.figures["commit_answers_lost"]
        if happened == struck:
            break  # the drain has no COMMIT of this number
        struck = happened
    else:
        pytest.fail(f"a drain has more than {COMMITS_MAX} COMMITs; the last ones were never struck")
    assert struck >= 4, "the strikes did not happen"


class StruckLine(Line):
    """A line whose workers reach the database through a proxy, and whose COMMITs are struck at random from a seed."""

    def behind(self, proxy: WireProxy, *, seed: int) -> None:
        """From now on."""
        far = through(proxy, self.dsn)
        self.database = Database(DsnSource(f"FAR {self.dsn}", lambda: far), self.database.options)
        self.bus = PostgresBus(self.database.scope)
        self.proxy, self.dice = proxy, random.Random(seed)
        self.met: Counter[str] = Counter()
        self.share = 0.5

    def drain(self, activities: Sequence[Activity], *, advance_seconds: float = 0.0) -> int:
        """As the line does, with the loop's answer to a transient fault."""
        if not hasattr(self, "proxy"):
            return super().drain(activities, advance_seconds=advance_seconds)
        return super().drain([_Struck(activity, self) for activity in activities], advance_seconds=advance_seconds)  # type: ignore[misc]


class _Struck:
    """An activity one of whose next COMMITs may be struck at each step."""

    def __init__(self, activity: Activity, line: StruckLine) -> None:
        self._activity, self._line = activity, line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._activity, name)

    def step(self) -> Outcome:
        line = self._line
        if line.dice.random() < line.share:
            line.proxy.arm(line.dice.choice(STRIKES), after=line.dice.randrange(3))
        try:
            return self._activity.step()
        except TransientFault as fault:
            line.met[type(fault).__name__] += 1
            self._activity.forget()
            return Outcome(records=0, rest_seconds=0.0)
        finally:
            line.proxy.pass_on()


@pytest.fixture
def struck(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, provisioned_template: str, short_dir: Path
) -> Iterator[StruckLine]:
    folder = short_dir / "struck"
    folder.mkdir()
    with opened_line(request, postgres_server, provisioned_template, folder, kind=StruckLine) as opened:
        assert isinstance(opened, StruckLine)
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_whole_line_under_struck_commits_decides_the_same_once(line: Line, struck: StruckLine, seed: int) -> None:
    """Every worker behind the gate with half of its steps struck at a COMMIT: the report passes with nothing missing and
    nothing surplus, and the set of (flow, core digest) is that of the undisturbed run."""
    for each in (line, struck):
        whole_line.stream_the_world(each, each.run_dir)
    whole_line.finish(line)
    before = counters()["ambiguous"]
    with proxied(struck.dsn) as proxy:
        struck.behind(proxy, seed=seed)
        whole_line.finish(struck)
        struck.share = 0.0  # a report is one long look: struck at each second step it would begin anew for ever
        report = whole_line.ask_for_report(struck, whole_line.reporter(struck))
        close_thread_connections()
    lost, unanswered = proxy.figures["commits_lost"], proxy.figures["commit_answers_lost"]
    assert min(lost, unanswered) >= 5, "the strikes did not happen"
    assert counters()["ambiguous"] - before == lost + unanswered
    assert set(struck.met) == {CommitAmbiguous.__name__}
    decided = [sorted(each.sql("select flow_id, core_digest from df.decisions")) for each in (line, struck)]
    assert decided[0] == decided[1]
    assert len(decided[0]) == whole_line.TRANSACTIONS
    assert report is not None
    assert [each for each in report["equations"] if each["missing"] or each["surplus"]] == []
    assert report["verdict"] == "PASS"
