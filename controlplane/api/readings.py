"""Which numbers are taken at the moment of a scrape, and what is a scrape answered with?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from claude_conductor import __version__
from claude_conductor.clock import Clock
from claude_conductor.telemetry import metrics
from claude_conductor.telemetry.exposition import CONTENT_TYPE, Exposition, Reading
from controlplane.api.scrape import Scrape
from controlplane.domain.agent import State
from controlplane.service.meter import Meter
from controlplane.service.registry import Registry
from controlplane.service.watch import Watch


def scrape(meter: Meter, registry: Registry, watch: Watch, clock: Clock, store: str) -> Scrape:
    """Return what answers a scrape; it listens to nothing yet."""

    def readings() -> Iterable[Reading]:
        agents = registry.counts()
        levels = Counter(agent.isolation.effective_level for agent in registry.live_agents() if agent.task_id)
        yield metrics.BUILD, [((__version__, store), 1.0)]
        yield metrics.TASKS, meter.open_tasks()
        yield metrics.OLDEST, meter.oldest(clock.now())
        yield metrics.AGENTS, [((state.value,), float(agents.get(state.value, 0))) for state in State]
        yield metrics.SESSIONS, [((), float(len(registry.all_connected())))]
        yield metrics.ISOLATION, [((level.value,), float(count)) for level, count in levels.items() if level is not None]
        yield metrics.EVENTS_DROPPED, [((), float(watch.dropped))]

    return Scrape(Exposition(meter.instruments(), readings).text, CONTENT_TYPE)
