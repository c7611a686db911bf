"""Questions to humans, one after the other: each gets its own outcome, and what is given up is withdrawn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_sidecar.local.humans import patience, question_of, response
from agent_sidecar.run.question import Answer, Closed, Outcome, Question
from agent_sidecar.run.task import Lease
from agent_sidecar.uplink.frames import Refusal
from agent_sidecar.uplink.outbox import OutboxLimits
from agent_sidecar.uplink.questions import Questions
from claude_conductor.clock import SystemClock
from claude_conductor.errors import DeadlineExceededError, InvalidArgumentError, MailboxFullError, StaleLeaseError
from claude_conductor.v1 import local_service_pb2
from tests.fakes.boxes import Boxes

LEASE, STALE = Lease("task_1", 1, 7), Lease("task_1", 1, 8)
YES = Closed(Outcome.ANSWERED, Answer("yes", 0, "operator"))


async def said(boxes: Boxes) -> list[str]:
    """Return what was journalled, once that is durable."""
    await boxes.journal.submit(lambda _: None)
    reports = [request.report for request in await boxes.wire()]
    return [f"{report.WhichOneof('report')} {report.asked.question_id or report.withdrawn.question_id}" for report in reports]


async def until_said(boxes: Boxes, *wanted: str) -> None:
    async with asyncio.timeout(10):
        found = await said(boxes)
        while found != list(wanted):
            found = await said(boxes)


def asking(questions: Questions, name: str, seconds: float = 30.0) -> asyncio.Task[Answer]:
    return asyncio.create_task(questions.ask(LEASE, Question(name, "well?"), seconds), name=f"ask {name}")


async def test_of_two_questions_at_once_the_second_waits_for_its_turn(boxes: Boxes) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first, second = asking(questions, "one"), asking(questions, "two")
    await until_said(boxes, "asked one")
    questions.closed(LEASE, "two", YES)
    questions.closed(LEASE, "one", YES)
    assert (await first).text == "yes"
    await until_said(boxes, "asked one", "asked two")
    questions.closed(LEASE, "two", YES)
    assert (await second).text == "yes"


async def test_a_question_that_never_got_its_turn_was_never_asked(boxes: Boxes) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first = asking(questions, "one")
    await until_said(boxes, "asked one")
    with pytest.raises(DeadlineExceededError, match="Another question"):
        await questions.ask(LEASE, Question("two", "well?"), 0.01)
    third = asking(questions, "three")
    await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    assert await said(boxes) == ["asked one"]
    questions.closed(LEASE, "one", YES)
    await first


async def test_a_call_that_is_given_up_withdraws_its_question_once_and_frees_the_turn(boxes: Boxes) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first = asking(questions, "one")
    await until_said(boxes, "asked one")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await until_said(boxes, "asked one", "withdrawn one")
    questions.closed(LEASE, "one", YES)  # crossed it: nobody waits
    second = asking(questions, "two")
    await until_said(boxes, "asked one", "withdrawn one", "asked two")
    questions.closed(LEASE, "two", YES)
    await second


async def test_the_word_on_another_lease_or_another_question_is_ignored(boxes: Boxes) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first = asking(questions, "one")
    await until_said(boxes, "asked one")
    questions.closed(STALE, "one", Closed(Outcome.ANSWERED, Answer("no", 0, "operator")))
    questions.closed(LEASE, "two", Closed(Outcome.ANSWERED, Answer("no", 0, "operator")))
    questions.closed(LEASE, "one", YES)
    questions.closed(LEASE, "one", Closed(Outcome.ANSWERED, Answer("again", 0, "operator")))
    assert (await first).text == "yes"


@pytest.mark.parametrize(
    ("closed", "error"),
    [(Closed(Outcome.EXPIRED), DeadlineExceededError), (Closed(Outcome.WITHDRAWN), StaleLeaseError)],
)
async def test_a_question_that_is_closed_without_an_answer_is_an_error(
    boxes: Boxes, closed: Closed, error: type[Exception]
) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first = asking(questions, "one")
    await until_said(boxes, "asked one")
    questions.closed(LEASE, "one", closed)
    with pytest.raises(error):
        await first


async def test_a_refused_question_fails_with_its_reason(boxes: Boxes) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first = asking(questions, "one")
    await until_said(boxes, "asked one")
    boxes.outbox.committed(1, {1: Refusal("STALE_LEASE", "not yours")})
    with pytest.raises(StaleLeaseError, match="not yours"):
        await first


async def test_a_question_waits_on_when_its_frame_was_taken_by_a_session_that_broke(boxes: Boxes) -> None:
    questions = Questions(boxes.outbox, SystemClock())
    first = asking(questions, "one")
    await until_said(boxes, "asked one")
    boxes.outbox.resume(1)  # taken, and the answer to the frame is lost
    await asyncio.sleep(0)
    assert not first.done()
    questions.closed(LEASE, "one", YES)
    assert (await first).text == "yes"


async def test_a_full_journal_takes_no_question(tmp_path: Path) -> None:
    boxes = Boxes(tmp_path / "full.db", OutboxLimits(journal=10))
    await boxes.open()
    with pytest.raises(MailboxFullError):
        await Questions(boxes.outbox, SystemClock()).ask(LEASE, Question("one", "x" * 20), 1.0)
    assert await said(boxes) == []
    await boxes.close()


def test_how_long_is_waited_is_the_callers_and_its_deadlines_word() -> None:
    request = local_service_pb2.AskHumanRequest()
    assert patience(request, None) == 3600.0
    assert patience(request, 10.0) == 9.75
    request.timeout.FromSeconds(86_400)
    assert patience(request, None) == 86_400.0
    for wrong in (0, 86_401, -1):
        request.timeout.FromSeconds(wrong)
        with pytest.raises(InvalidArgumentError):
            patience(request, None)


def test_only_an_approval_is_approved() -> None:
    plain, approval = Question("q", "?", options=("approve", "deny")), Question("q", "?", approval=True, raw="ls")
    chosen = [response(question, Answer("", option, "operator")) for question in (plain, approval) for option in (1, 2)]
    assert [(each.option_text, each.approved) for each in chosen] == [
        ("approve", False),
        ("deny", False),
        ("approve", True),
        ("deny", False),
    ]
    assert response(approval, Answer("yes!", 0, "operator")).approved is False


def test_a_question_without_an_id_gets_one() -> None:
    assert question_of(local_service_pb2.AskHumanRequest(text="?"), lambda prefix: prefix + "new").id == "question_new"
