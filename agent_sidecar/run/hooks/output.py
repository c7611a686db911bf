"""The agent's output: read as it comes, understood by its kind's parser, handed on in bounded pieces with their offsets."""

from __future__ import annotations

import asyncio
from typing import Final

from agent_sidecar.drivers.driver import Answer, Observation, OutputParser, Progress, TokenUse
from agent_sidecar.run.hook import Run
from agent_sidecar.run.hooks.usage import usage_of
from agent_sidecar.run.rate import Bucket
from agent_sidecar.run.reports import Reports
from agent_sidecar.run.text import one_line
from claude_conductor.clock import Clock

PIECE_BYTES: Final = 64 << 10
"""Most bytes of one report."""
_BYTES_A_SECOND: Final = 8 << 20
_PROGRESS_A_SECOND: Final = 10


class OutputHook:
    """Pumps both streams. An agent that writes faster than its output is taken waits in its own write(2).

    Args:
        reports: Takes output and progress.
        clock: Tells the time.
        bytes_a_second: Sustained rate; twice as much may come at once.
    """

    name = "output"

    def __init__(self, reports: Reports, clock: Clock, bytes_a_second: float = _BYTES_A_SECOND) -> None:
        self._reports = reports
        self._clock = clock
        self._bytes_a_second = bytes_a_second

    async def prepare(self, run: Run) -> None:
        """Nothing to do."""

    async def during(self, run: Run) -> None:
        """Read to the end of both streams."""
        if run.handle is None or run.driver is None:
            return
        pump = Pump(run, run.driver.parser(), self._reports, self._clock, self._bytes_a_second)
        async for stream, chunk in run.handle.output():
            await pump.take(stream, chunk)
        await pump.end()

    async def finish(self, run: Run) -> None:
        """Nothing to take back."""


class Pump:
    """From chunks to reports, for one run."""

    def __init__(self, run: Run, parser: OutputParser, reports: Reports, clock: Clock, bytes_a_second: float) -> None:
        self._run = run
        self._parser = parser
        self._reports = reports
        self._clock = clock
        self._bytes = Bucket(bytes_a_second, bytes_a_second * 2, clock)
        self._progress = Bucket(_PROGRESS_A_SECOND, _PROGRESS_A_SECOND, clock)
        self._dropped = 0

    async def take(self, stream: str, chunk: bytes) -> None:
        """Take what the agent wrote."""
        self._run.life.last = self._clock.monotonic()
        if stream != "stdout":
            await self._show(stream, chunk)
            return
        shown, observations = self._parser.feed(chunk)
        await self._show(stream, shown)
        await self._understand(observations)

    async def end(self) -> None:
        """Take what the parser still held back."""
        shown, observations = self._parser.finish()
        await self._show("stdout", shown)
        await self._understand(observations)
        if self._dropped:
            self._run.warnings.append(
                f"{self._dropped} bytes of live output were dropped: the control plane was away for longer than the journal holds"
            )

    async def _show(self, stream: str, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            await asyncio.sleep(self._bytes.take(len(piece)))
            if not await self._reports.output(self._run.assignment.lease, stream, self._run.printed, piece):
                self._dropped += len(piece)
            self._run.printed += len(piece)

    async def _understand(self, observations: list[Observation]) -> None:
        for each in observations:
            match each:
                case Progress(text=text):
                    if self._progress.allows(1):
                        await self._reports.progress(self._run.assignment.lease, one_line(text), usage_of(self._run, self._clock))
                case TokenUse():
                    self._run.tokens = each
                case Answer():
                    self._run.answer = each
