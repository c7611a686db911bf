"""How a run's reports become frames of the session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from agent_sidecar.egress.tally import Counted
from agent_sidecar.run.task import Amount, InForce, Lease, Result, Usage
from agent_sidecar.uplink import convert
from agent_sidecar.uplink.frames import Answer, Frame, Kind, Refusal
from agent_sidecar.uplink.outbox import Outbox
from agent_sidecar.uplink.sending import error_of
from claude_conductor.errors import ControlPlaneUnavailableError, StoreUnavailableError
from claude_conductor.v1 import session_service_pb2 as pb
from claude_conductor.v1 import task_pb2

_log = logging.getLogger(__name__)
_REPEAT_SECONDS: Final = 0.5
_DECISIONS: Final = 100
"""In one report."""


class Reporting:
    """Writes reports into the outbox.

    Args:
        outbox: Where they go.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def started(self, lease: Lease, in_force: InForce) -> None:
        """Say that the agent's process runs."""
        started = pb.TaskStarted(isolation=convert.in_force_to(in_force))
        self._outbox.append(_frame(Kind.STATUS, pb.TaskReport(lease=convert.lease_to(lease), started=started)))

    async def progress(self, lease: Lease, text: str, usage: Usage) -> None:
        """Show one line of progress; dropped while the journal is full."""
        if not self._outbox.takes_message(len(text)):
            return
        progress = pb.TaskProgress(text=text, usage=convert.usage_to(usage))
        self._outbox.append(_frame(Kind.STATUS, pb.TaskReport(lease=convert.lease_to(lease), progress=progress)))

    async def used(self, lease: Lease, usage: Usage) -> None:
        """Tell the use so far; dropped while the journal is full."""
        if self._outbox.takes_message(0):
            used = pb.TaskReport(lease=convert.lease_to(lease), used=convert.usage_to(usage))
            self._outbox.append(_frame(Kind.STATUS, used))

    async def claim(self, lease: Lease, usage: Usage, amount: Amount, seconds: float) -> None:
        """Ask for an amount of the task's budget."""
        frame = _claim(lease, usage, amount)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(frame)
        except TimeoutError as cause:
            raise ControlPlaneUnavailableError(
                "The control plane, which keeps the task's budget, did not answer in time.", next_step="repeat the call later"
            ) from cause
        if isinstance(answer, Refusal):
            raise error_of(answer)

    async def _answer(self, frame: Frame) -> Answer:
        """Send a frame that may be repeated until the control plane's answer is known."""
        while True:
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            await self._outbox.append(frame, answer=answer)
            await asyncio.wait({answer})
            if not answer.cancelled():
                return answer.result()

    async def claimed(self, lease: Lease, usage: Usage, amount: Amount) -> None:
        """Tell what is left of an amount that was asked for; dropped while the journal is full."""
        if self._outbox.takes_message(0):
            self._outbox.append(_claim(lease, usage, amount))

    async def rate_limited(self, lease: Lease, seconds: float, why: str, credential: str) -> None:
        """Say that the model provider takes no requests for some seconds."""
        limited = pb.TaskRateLimited(retry_delay=convert.duration(seconds), reason=why, credential_id=credential)
        self._outbox.append(_frame(Kind.STATUS, pb.TaskReport(lease=convert.lease_to(lease), rate_limited=limited)))

    async def rate_limit_ended(self, lease: Lease) -> None:
        """Say that it takes them again."""
        ended = pb.TaskRateLimitEnded()
        self._outbox.append(_frame(Kind.STATUS, pb.TaskReport(lease=convert.lease_to(lease), rate_limit_ended=ended)))

    async def reached(self, lease: Lease, decisions: Sequence[Counted]) -> None:
        """Say what the agent's proxy decided."""
        for first in range(0, len(decisions), _DECISIONS):
            egress = pb.TaskEgress(decisions=map(convert.decision_to, decisions[first : first + _DECISIONS]))
            self._outbox.append(_frame(Kind.STATUS, pb.TaskReport(lease=convert.lease_to(lease), egress=egress)))

    async def output(self, lease: Lease, stream: str, offset: int, data: bytes) -> bool:
        """Hand over live output; False if it was dropped."""
        if not await self._outbox.takes_output(len(data)):
            return False
        output = pb.TaskOutput(stream=stream, offset=offset, data=data)
        self._outbox.append(_frame(Kind.OUTPUT, pb.TaskReport(lease=convert.lease_to(lease), output=output)))
        return True

    async def completed(self, lease: Lease, result: Result) -> None:
        """End the attempt; a full disk is waited for, as a result is never given up."""
        report = pb.TaskReport(lease=convert.lease_to(lease), completed=convert.result_to(result))
        frame = _frame(Kind.RESULT, report, result.patch.artefact_id if result.patch is not None else "", lease)
        while True:
            try:
                await self._outbox.append(frame)
                return
            except StoreUnavailableError as error:
                _log.error("result could not be journalled yet", extra={"task_id": lease.task_id, "cause": str(error)})
                await asyncio.sleep(_REPEAT_SECONDS)


def _claim(lease: Lease, usage: Usage, amount: Amount) -> Frame:
    claim = pb.BudgetClaim(used=convert.usage_to(usage), claimed=convert.amount_to(amount))
    return _frame(Kind.STATUS, pb.TaskReport(lease=convert.lease_to(lease), budget=claim))


def _frame(kind: Kind, report: pb.TaskReport, attachment: str = "", lease: Lease | None = None) -> Frame:
    return Frame(kind, pb.ConnectRequest(report=report).SerializeToString(), attachment, lease)


def without_patch(body: bytes, reason: str) -> bytes:
    """Return a result's frame without its patch, which the control plane refused for good; a warning says why."""
    request = pb.ConnectRequest.FromString(body)
    result: task_pb2.TaskResult = request.report.completed
    result.patch_artefact_id = ""
    result.ClearField("patch")
    del result.artefacts[:]
    result.warnings.append(f"the patch could not be stored: {reason}")
    return request.SerializeToString()
