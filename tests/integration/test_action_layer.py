"""action_layer: every intent ends once - denied, recorded, or delivered to the receiver by its idempotency key."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud_daemons.config.secrets_file import write_secrets
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.workers.decision_lane.action_layer import WORKER
from tests.integration.lane import SIGNING_KEY, Receiver, intent, step_until, webhook_receiver
from tests.line import ROOT, Line

CALLED = "notify_cardholder"
KILLS = 20

A_WORKER = """
import sys
from pathlib import Path
from fraud_daemons.bootstrap import run_worker
from fraud_daemons.config.profiles import load_profile
root, run_dir, dsn, url = sys.argv[1:]
overrides = {"profile.run_dir": run_dir, "profile.packs": ["decision_lane"], "actions.webhook_url": url}
profile = load_profile("local_parity", root=Path(root), environment={"PLATFORM_DSN": dsn}, overrides=overrides)
raise SystemExit(run_worker(profile, "action_layer"))
"""


@pytest.fixture
def receiver(line: Line) -> Iterator[Receiver]:
    """A receiver, and a line that may sign calls to it."""
    line.secrets = {"webhook": {"signing_key": SIGNING_KEY}}
    with webhook_receiver() as served:
        yield served


def outcomes(line: Line) -> dict[str, tuple[str, str, int]]:
    """intent_id -> (status, executor, attempts) from the ledger."""
    rows = line.sql("select intent_id, status, executor, attempts from al.outcomes")
    return {intent_id: (status, executor, attempts) for intent_id, status, executor, attempts in rows}


def every_intent_ended_once(line: Line) -> None:
    """Intents on the bus, outcomes in the ledger and outcomes on the bus are the same set, each once."""
    asked = sorted({body["intent_id"] for body in line.bodies("action_intents")})
    assert sorted(body["intent_id"] for body in line.bodies("action_outcomes")) == asked
    assert sorted(outcomes(line)) == asked


def the_receiver_heard_each_intent(line: Line, receiver: Receiver) -> None:
    """By key, the receiver knows exactly the intents that call for it, each with one body and a good signature."""
    asked = {body["intent_id"] for body in line.bodies("action_intents") if body["action"] == CALLED}
    assert set(receiver.counted()) == asked
    assert len({(key, body) for key, body, _ in receiver.journal}) == len(asked)
    assert all(signed for _, _, signed in receiver.journal)


def test_the_ledger_executes_what_needs_no_call(line: Line) -> None:
    """Recorded is executed; the outcome is published with the card, once, also when the batch comes again."""
    line.append("action_intents", [intent(line, n) for n in range(40)])
    line.work(WORKER)
    every_intent_ended_once(line)
    assert set(outcomes(line).values()) == {("EXECUTED", "ledger", 0)}
    assert {body["card_token"] for body in line.bodies("action_outcomes")} == {f"card{n}" for n in range(5)}
    before = line.records("action_outcomes")
    line.fresh_checkpoints()
    line.work(WORKER)
    assert line.records("action_outcomes") == before
    assert line.sql("select repeats from al.repeats") == [(40,)]


def test_a_forbidden_origin_is_denied(line: Line) -> None:
    """An origin outside the authority table, an action it may not ask for, an action that does not exist: DENIED."""
    line.append(
        "action_intents",
        [
            intent(line, 1, origin="stranger:mallory"),
            intent(line, 2, origin="analyst:ann", action="decline_authorisation"),
            intent(line, 3, action="empty_the_vault"),
            intent(line, 4),
        ],
    )
    line.work(WORKER)
    every_intent_ended_once(line)
    by_flow = {body["flow_id"]: body for body in line.bodies("action_outcomes")}
    assert [by_flow[f"flow{n}"]["status"] for n in (1, 2, 3, 4)] == ["DENIED", "DENIED", "DENIED", "EXECUTED"]
    assert "stranger:mallory" in by_flow["flow1"]["detail"]


def test_the_kill_switch_denies_everything_also_what_was_waiting(line: Line, receiver: Receiver) -> None:
    """With the switch on nobody is called: neither for new intents nor for those pending from before."""
    line.begin_run(live=True)
    line.append("action_intents", [intent(line, n, action=CALLED) for n in range(3)])
    intake = line.activities(WORKER, settings={"actions.webhook_url": receiver.url})[0]
    line.drain([intake])
    assert line.sql("select distinct state from al.intents") == [("PENDING",)]
    line.append("action_intents", [intent(line, 9)])
    line.work(WORKER, settings={"actions.webhook_url": receiver.url, "actions.kill_switch": True})
    every_intent_ended_once(line)
    assert {status for status, _, _ in outcomes(line).values()} == {"DENIED"}
    assert all("kill switch" in body["detail"] for body in line.bodies("action_outcomes"))
    assert receiver.journal == []


def test_a_live_run_calls_the_receiver_signed_and_by_key(line: Line, receiver: Receiver) -> None:
    """Each intent for the receiver is posted with its idempotency key and a signature that verifies."""
    line.begin_run(live=True)
    line.append("action_intents", [intent(line, n, action=CALLED) for n in range(12)] + [intent(line, 50)])
    activities = line.activities(WORKER, settings={"actions.webhook_url": receiver.url})
    step_until(line, activities, lambda: len(outcomes(line)) == 13)
    every_intent_ended_once(line)
    the_receiver_heard_each_intent(line, receiver)
    assert set(receiver.counted().values()) == {1}
    assert sorted(outcomes(line).values()) == [("EXECUTED", "ledger", 0)] + [("EXECUTED", "webhook", 1)] * 12


def test_advancing_the_checkpoint_only_turns_the_fact_red(line: Line, receiver: Receiver) -> None:
    """A pass-through calls nobody and ends nothing, and both facts say so."""
    line.begin_run(live=True)
    line.append("action_intents", [intent(line, n, action=CALLED) for n in range(3)])
    line.drain(line.pass_through(WORKER))
    with pytest.raises(AssertionError):
        the_receiver_heard_each_intent(line, receiver)
    with pytest.raises(AssertionError):
        every_intent_ended_once(line)


def test_marking_executed_without_calling_turns_the_fact_red(line: Line, receiver: Receiver) -> None:
    """A worker that only records ends every intent, and still the receiver's journal gives it away."""
    line.begin_run(live=True)
    line.append("action_intents", [intent(line, n, action=CALLED) for n in range(3)])
    line.work(WORKER, settings={"actions.webhook_url": ""})
    every_intent_ended_once(line)
    with pytest.raises(AssertionError):
        the_receiver_heard_each_intent(line, receiver)


def test_on_a_run_that_is_not_live_the_receiver_hears_nothing(line: Line, receiver: Receiver) -> None:
    """Replaying a world pages nobody: the ledger records, and the outcome says why nobody was called."""
    line.begin_run(live=False)
    line.append("action_intents", [intent(line, n, action=CALLED) for n in range(5)])
    line.work(WORKER, settings={"actions.webhook_url": receiver.url})
    every_intent_ended_once(line)
    assert set(outcomes(line).values()) == {("EXECUTED", "ledger", 0)}
    assert all("not marked live" in body["detail"] for body in line.bodies("action_outcomes"))
    assert receiver.journal == []


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([404], ("FAILED", 1)),
        ([302], ("FAILED", 1)),
        ([500, 429, 408, 204], ("EXECUTED", 4)),
        ([503] * 9, ("FAILED", 5)),
    ],
)
def test_answers_decide_about_another_call(
    line: Line, receiver: Receiver, statuses: list[int], expected: tuple[str, int]
) -> None:
    """4xx and redirects end it at once; 5xx, 408 and 429 are called again after a pause, at most five times."""
    line.begin_run(live=True)
    receiver.answer = lambda _key, nth: (statuses[nth - 1], 0.0)
    line.append("action_intents", [intent(line, 1, action=CALLED)])
    activities = line.activities(WORKER, settings={"actions.webhook_url": receiver.url})
    step_until(line, activities, lambda: bool(outcomes(line)), advance_seconds=0.2)
    [(status, executor, attempts)] = outcomes(line).values()
    assert (status, executor, attempts) == (expected[0], "webhook", expected[1])
    assert len(receiver.journal) == expected[1]
    every_intent_ended_once(line)


def test_a_receiver_that_is_not_there_fails_after_the_last_attempt(line: Line, receiver: Receiver) -> None:
    """A refused connection is a failed attempt; the outcome says how often and why."""
    line.begin_run(live=True)
    line.append("action_intents", [intent(line, 1, action=CALLED)])
    settings = {"actions.webhook_url": "http://127.0.0.1:9/hook", "actions.webhook_attempts_max": 2}
    step_until(line, line.activities(WORKER, settings=settings), lambda: bool(outcomes(line)), advance_seconds=0.2)
    [body] = line.bodies("action_outcomes")
    assert (body["status"], body["attempts"]) == ("FAILED", 2)
    assert "gave up after 2 failed attempts" in body["detail"]


def test_a_slow_receiver_does_not_stop_the_ledger(line: Line, receiver: Receiver) -> None:
    """While every caller waits for a receiver that does not answer, ledger actions go on."""
    line.begin_run(live=True)
    receiver.answer = lambda _key, _nth: (204, 1.5)
    line.append("action_intents", [intent(line, n, action=CALLED) for n in range(8)])
    activities = line.activities(WORKER, settings={"actions.webhook_url": receiver.url})
    step_until(line, activities, lambda: len(receiver.journal) == 4)
    line.append("action_intents", [intent(line, n) for n in range(100, 200)])
    began = time.monotonic()
    step_until(line, activities, lambda: len(outcomes(line)) >= 100)
    assert time.monotonic() - began < 1.0
    assert len(receiver.journal) == 4
    for activity in activities:
        activity.close()  # a drain waits for the calls in hand and commits how they ended
    assert len(outcomes(line)) == 104


def test_the_same_intent_with_another_content_is_an_anomaly(line: Line) -> None:
    """The first intent stands; the other is kept and never executed."""
    line.append("action_intents", [intent(line, 1), intent(line, 1, origin="analyst:eve"), intent(line, 1)])
    line.work(WORKER)
    every_intent_ended_once(line)
    assert line.sql("select convert_from(body, 'UTF8')::json ->> 'origin' from al.conflicts") == [("analyst:eve",)]
    assert line.sql("select repeats from al.repeats") == [(1,)]


def test_poison_is_set_aside_alone(line: Line) -> None:
    """An intent without an action goes to the dead letters; its neighbours are executed."""
    broken = intent(line, 2)
    del broken["action"]
    line.append("action_intents", [intent(line, 1), broken, intent(line, 3)])
    line.work(WORKER)
    assert len(outcomes(line)) == 2
    assert line.sql("select event_id from dead_letters.letters") == [(broken["intent_id"],)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"actions.webhook_url": "ftp://receiver/hook"}, "http:// or https://"),
        ({"actions.webhook_url": "http://user:secret@receiver/"}, "credentials"),
        ({"actions.webhook_url": "http://receiver:notaport/"}, "ort"),
        ({"actions.webhook_actions": ["page_everybody"]}, "page_everybody"),
        ({"actions.webhook_url": "http://receiver/"}, "signing_key"),
    ],
)
def test_actions_that_cannot_be_carried_out_hold_the_worker(line: Line, settings: dict[str, Any], words: str) -> None:
    """A wrong receiver, an unknown action or a missing key is found at the start."""
    with pytest.raises(ConfigurationError, match=words):
        line.activities(WORKER, settings=settings)


def test_twenty_kills_and_the_receiver_still_counts_each_intent_once(
    line: Line, receiver: Receiver, short_dir: Path
) -> None:
    """A real process, SIGKILLed twenty times mid-call: no intent lost, one outcome each, repeats under the same key.

    A call that a kill cut off is made again with the same key and the same bytes; that is what the receiver's own
    journal shows, and counting keys it counts each intent exactly once.
    """
    dice = random.Random(20)
    line.begin_run(live=True)
    receiver.answer = lambda _key, _nth: (204, 0.02)
    write_secrets(short_dir, line.secrets)
    command = [sys.executable, "-c", A_WORKER, str(ROOT), str(short_dir), line.dsn, receiver.url]
    environment = {"PATH": os.environ["PATH"]}
    sent = 0
    for _ in range(KILLS):
        line.append("action_intents", [intent(line, n, action=CALLED) for n in range(sent, sent + 12)])
        line.append("action_intents", [intent(line, n) for n in range(sent, sent + 12)])
        sent += 12
        heard = len(receiver.journal)
        with subprocess.Popen(command, env=environment) as worker:
            _wait(lambda heard=heard: len(receiver.journal) > heard)
            time.sleep(dice.uniform(0, 0.06))
            worker.send_signal(signal.SIGKILL)
    with subprocess.Popen(command, env=environment) as worker:
        _wait(lambda: len(outcomes(line)) == 2 * sent)
        worker.terminate()
        assert worker.wait(timeout=10) == 0
    every_intent_ended_once(line)
    the_receiver_heard_each_intent(line, receiver)
    assert {status for status, _, _ in outcomes(line).values()} == {"EXECUTED"}
    repeats = sum(receiver.counted().values()) - sent
    assert 0 < repeats <= KILLS * 4  # kills did hit calls, and repeated no more than were in hand
    attempts = line.sql("select sum(attempts) from al.intents where executor = 'webhook'")[0][0]
    assert attempts >= len(receiver.journal)  # the ledger never knows of fewer calls than were made
    assert {orjson.loads(body)["intent_id"] == key for key, body, _ in receiver.journal} == {True}


def _wait(condition: Any, *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)
