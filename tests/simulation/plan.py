"""What does a seed draw before anything runs?"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from agent_sidecar.uplink.inbox import InboxLimits
from controlplane.api.session.writer import StreamBounds
from tests.simulation.processes import Fate

TOPIC = "topic/news"
_WITH_MORE = (3, 6)
"""Remainders by 7 of the seeds that also draw what is in `More`; the others mean what they meant before there was any."""


@dataclass(frozen=True)
class More:
    """Messages to many, questions, and dead letters that are sent again."""

    shared: float = 0.0
    """Share of the messages that go to the topic or to everyone."""
    asked: float = 0.0
    """Share of the others, durable ones, whose sender waits for an answer."""
    redrives: int = 0
    """How often somebody sends every dead letter again while things fail; and once more at the end, if at all."""
    subscribing: float = 0.7
    """Share of the agents that are subscribed to the topic."""


def draw_more(seed: int) -> tuple[More, Random]:
    """Return it, and where what follows from it is drawn from: apart from everything else."""
    random = Random(f"more {seed}")
    if seed % 7 not in _WITH_MORE:
        return More(), random
    return More(random.choice((0.0, 0.3, 0.5)), random.choice((0.0, 0.3, 0.5)), random.choice((0, 1, 2))), random


@dataclass(frozen=True)
class Plan:
    """What a seed draws before anything runs."""

    agents: int
    letters: int
    width: int
    cutting: float
    """Probability that a frame is the last of its stream."""
    store_failing: float
    journal_failing: float
    plane_kills: int
    sidecar_kills: int
    agent_kills: int
    losing_journals: bool
    ephemeral: float
    """Share of the messages."""
    hurried: float
    """Share of the messages with a short life."""
    inbox: InboxLimits
    attempts: int
    bounds: StreamBounds
    mailbox_messages: int
    seconds: float
    """How long faults go on."""


def draw(fate: Fate) -> Plan:
    """Return a plan. Many are free of most faults, so that the rest is seen clearly."""
    random = fate.random
    calm = random.random() < 0.1
    small = random.random() < 0.25
    mailbox = 3 if random.random() < 0.1 else 10_000
    journal_failing = 0.0 if calm else random.choice((0.0, 0.0, 0.0, 0.05))
    # Who sends many at once and does not wait for the answer cannot know which one was refused, so order is not promised then.
    one_by_one = mailbox == 3 or journal_failing > 0

    def kills() -> int:
        return 0 if calm else random.choice((0, 0, 0, 1, 1, 2))

    return Plan(
        agents=random.choice((2, 2, 3)),
        letters=random.randint(2, 6),
        width=1 if one_by_one else random.choice((1, 2, 4, 8)),
        cutting=0.0 if calm else random.choice((0.0, 0.01, 0.03, 0.06)),
        store_failing=0.0 if calm else random.choice((0.0, 0.0, 0.02, 0.1)),
        journal_failing=journal_failing,
        plane_kills=kills(),
        sidecar_kills=kills(),
        agent_kills=kills(),
        losing_journals=random.random() < 0.15,
        ephemeral=random.choice((0.0, 0.0, 0.3)),
        hurried=random.choice((0.0, 0.0, 0.0, 0.3)),
        inbox=InboxLimits(random.choice((1, 2, 4)), 400) if small else InboxLimits(),
        attempts=random.choice((1, 2, 5)),
        bounds=StreamBounds(ahead_messages=8, ahead_bytes=1000) if random.random() < 0.3 else StreamBounds(),
        mailbox_messages=mailbox,
        seconds=random.choice((0.1, 0.2, 0.5)),
    )
