"""What policy and rate limit cost: processor time per frame in the relay, with them and without, interleaved in one process."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench.figures import Figure, of_rounds
from claude_conductor.clock import SystemClock
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.app import Parts, build
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.stores import open_memory
from controlplane.domain.message import Header, Quality, StoredFrame
from controlplane.domain.policy import Effect, Pattern, Policy, Rule
from controlplane.domain.routing import Shape
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.service.relay import Offer
from controlplane.service.sessions import Hello
from controlplane.service.work import Work
from controlplane.settings import Limits, Settings

FRAMES = 5000
RULES = tuple(
    Rule(f"rule {number}", Effect.DENY, Pattern(labels={"role": f"role-{number}"}), types=(f"type-{number}",))
    for number in range(100)
)
UNLIMITED = Limits(messages_a_second=1e9, messages_at_once=1 << 30)


class Nowhere:
    """A sidecar that takes everything."""

    room = 1 << 30

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        """Drop a frame."""


class Without:
    """Neither policy nor rate limit."""

    def check(self, *_: object) -> None:
        """Let everything through at once, as a rate limit."""

    async def ask(self, *_: object) -> None:
        """Let everything through, as a policy."""


@contextlib.asynccontextmanager
async def plane(place: Path, policy: Policy) -> AsyncIterator[Parts]:
    """Put a control plane together, with two agents connected."""
    clock = SystemClock()
    output = OutputDirectory(place, 1 << 20)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        settings = Settings(place, limits=UNLIMITED, policy=policy)
        parts = build(settings, open_memory(clock, MailboxLimits()), output, work, clock, PassingTracer())
        for name in ("a", "b"):
            hello = Hello(1000, Incarnation(name), labels={"role": name}, long_running=True)
            link = Nowhere()
            session = await parts.sessions.open(DEFAULT_TENANT, AgentId(name), hello, link)  # type: ignore[arg-type]
            await parts.sessions.begin(session, hello)
        yield parts
        work.cancel()
    await output.close()


async def cost(parts: Parts, batch: int) -> float:
    """Return the processor time of one frame in microseconds, frames handed in `batch` at a time."""
    header = Header("b", "note", Quality.EPHEMERAL, 0, 0, bytes(16))
    offer = Offer(DEFAULT_TENANT, "agent/a", header, Shape(1, 256), b"x" * 256, "a")
    offers: Sequence[Offer] = [offer for _ in range(batch)]
    began = time.process_time()
    for _ in range(FRAMES // batch):
        await parts.relay.accept(offers)
    return (time.process_time() - began) / FRAMES * 1e6


async def compare(rounds: int, batch: int) -> dict[str, list[float]]:
    """Return the cost of each variant, a value a round."""
    found: dict[str, list[float]] = {"without": [], "default policy and rate": [], "100 rules and rate": []}
    policies = {"without": Policy(), "default policy and rate": Policy(), "100 rules and rate": Policy(RULES)}
    with tempfile.TemporaryDirectory(prefix="cb") as place:
        async with contextlib.AsyncExitStack() as stack:
            planes = {}
            for name, policy in policies.items():
                planes[name] = await stack.enter_async_context(plane(Path(place) / name.replace(" ", "-"), policy))
            without = Without()
            planes["without"].relay.__dict__["_rates"] = without
            planes["without"].relay.__dict__["_permissions"] = type("Open", (), {"check": without.ask})()
            for name in (*planes, *list(planes) * rounds):  # the first turn finds cold caches
                found[name].append(await cost(planes[name], batch))
    return {name: costs[1:] for name, costs in found.items()}


def measure(rounds: int) -> list[Figure]:
    """Measure frames one by one, and 64 that arrived together."""
    figures: list[Figure] = []
    for batch in (1, 64):
        costs = asyncio.run(compare(max(rounds, 5), batch))
        base = costs["without"]
        for name, values in costs.items():
            figures.append(of_rounds("rules", f"relay CPU per frame, {batch} at a time, {name}", "us", values))
            if name != "without":
                ratios = [value / other for value, other in zip(values, base, strict=True)]
                figures.append(of_rounds("rules", f"ratio to without, {batch} at a time, {name}", "ratio", ratios))
    return figures
