"""How a question of the agent gets the answer of a human: journalled, one at a time, whatever becomes of the session.

The control plane has the last word on what became of a question, so that an answer that was counted is never given up: when its
time is over, or its call is cancelled, the question is withdrawn, and the control plane says whether an answer was faster.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from agent_sidecar.run.question import Answer, Closed, Outcome, Question
from agent_sidecar.run.task import Lease
from agent_sidecar.uplink import convert, frames
from agent_sidecar.uplink.frames import Frame, Kind, Refusal
from agent_sidecar.uplink.outbox import Outbox
from agent_sidecar.uplink.sending import error_of
from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, DeadlineExceededError, MailboxFullError, StaleLeaseError
from claude_conductor.v1 import session_service_pb2 as pb
from claude_conductor.v1 import task_pb2

_LAST_WORD_SECONDS: Final = 5.0
"""How long the control plane's word on an overdue question is waited for."""


class Questions:
    """Asks the questions of one agent.

    Args:
        outbox: Where reports go.
        clock: Its monotonic time counts.
    """

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._turn = asyncio.Lock()
        self._awaited: tuple[Lease, str, asyncio.Future[Closed | ConductorError]] | None = None

    async def ask(self, lease: Lease, question: Question, seconds: float) -> Answer:
        """Ask, and return the answer. Cancelling withdraws the question.

        Args:
            lease: Of the present task.
            question: What is asked.
            seconds: For everything, the wait for an earlier question to be closed included.

        Raises:
            DeadlineExceededError: Nobody answered in time.
            StaleLeaseError: The task ended meanwhile, or is somebody else's.
            MailboxFullError: The journal is full.
            ConductorError: It cannot be asked.
        """
        end = self._clock.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
        except TimeoutError as cause:
            raise DeadlineExceededError(
                "Another question of this task was open all the time.", next_step="ask one question after the other"
            ) from cause
        try:
            closed = await self._ask(lease, question, max(0.0, end - self._clock.monotonic()))
        finally:
            self._turn.release()
        if isinstance(closed, ConductorError):
            raise closed
        if closed is None or closed.outcome is Outcome.EXPIRED:
            raise DeadlineExceededError(
                "Nobody answered in time.", next_step="go on as well as you can, or ask again", question_id=question.id
            )
        if closed.answer is None:
            raise StaleLeaseError("The task ended before anybody answered.", question_id=question.id)
        return closed.answer

    def closed(self, lease: Lease, question_id: str, closed: Closed) -> None:
        """Take the control plane's word on a question; one that nobody waits for is ignored."""
        if self._awaited is not None and self._awaited[:2] == (lease, question_id):
            _settle(self._awaited[2], closed)

    async def _ask(self, lease: Lease, question: Question, seconds: float) -> Closed | ConductorError | None:
        if not self._outbox.takes_message(len(question.text) + len(question.raw)):
            raise MailboxFullError("The sidecar's journal is full; nothing was asked.", next_step="ask again later")
        end: asyncio.Future[Closed | ConductorError] = asyncio.get_running_loop().create_future()
        self._awaited = (lease, question.id, end)
        try:
            self._report(lease, end, asked=_asked(question, seconds))
            await asyncio.wait({end}, timeout=seconds)
            if not end.done():
                self._report(lease, end, withdrawn=pb.QuestionWithdrawn(question_id=question.id, expired=True))
                await asyncio.wait({end}, timeout=_LAST_WORD_SECONDS)
        except asyncio.CancelledError:
            if not end.done():
                self._report(lease, end, withdrawn=pb.QuestionWithdrawn(question_id=question.id))
            raise
        finally:
            self._awaited = None
        return end.result() if end.done() else None

    def _report(self, lease: Lease, end: asyncio.Future[Closed | ConductorError], **report: Any) -> None:  # noqa: ANN401 - a oneof
        """Journal a report; that it is refused, or cannot be journalled, settles the question."""
        body = pb.ConnectRequest(report=pb.TaskReport(lease=convert.lease_to(lease), **report)).SerializeToString()
        verdict: asyncio.Future[frames.Answer] = asyncio.get_running_loop().create_future()
        verdict.add_done_callback(lambda done: _refused(done, end))
        appended = self._outbox.append(Frame(Kind.STATUS, body), answer=verdict)
        appended.add_done_callback(lambda done: _failed(done, end))


def _asked(question: Question, seconds: float) -> pb.QuestionAsked:
    return pb.QuestionAsked(
        question_id=question.id,
        kind=task_pb2.QUESTION_KIND_APPROVAL if question.approval else task_pb2.QUESTION_KIND_QUESTION,
        text=question.text,
        options=question.options,
        raw=question.raw,
        timeout=convert.duration(seconds),
    )


def _refused(verdict: asyncio.Future[frames.Answer], end: asyncio.Future[Closed | ConductorError]) -> None:
    refusal = None if verdict.cancelled() else verdict.result()
    if isinstance(refusal, Refusal):
        _settle(end, error_of(refusal))


def _failed(appended: asyncio.Future[int], end: asyncio.Future[Closed | ConductorError]) -> None:
    error = None if appended.cancelled() else appended.exception()
    if isinstance(error, ConductorError):
        _settle(end, error)


def _settle(end: asyncio.Future[Closed | ConductorError], closed: Closed | ConductorError) -> None:
    if not end.done():
        end.set_result(closed)
