"""What did a task use, over all of its attempts?"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.domain.task import ModelUsage, Task, Usage


def used(task: Task) -> Usage:
    """Return what all attempts used: their sum, of peak memory the largest."""
    total = Usage()
    for attempt in task.attempts:
        total = added(total, attempt.usage)
    if total == Usage() and task.result is not None:  # stored before attempts had a use of their own
        return task.result.usage
    return total


def added(left: Usage, right: Usage) -> Usage:
    """Return the use of both; of peak memory the larger."""
    return Usage(
        wall_seconds=left.wall_seconds + right.wall_seconds,
        cpu_seconds=left.cpu_seconds + right.cpu_seconds,
        memory_peak_bytes=max(left.memory_peak_bytes, right.memory_peak_bytes),
        throttled_seconds=left.throttled_seconds + right.throttled_seconds,
        input_tokens=left.input_tokens + right.input_tokens,
        output_tokens=left.output_tokens + right.output_tokens,
        cache_read_tokens=left.cache_read_tokens + right.cache_read_tokens,
        cache_write_tokens=left.cache_write_tokens + right.cache_write_tokens,
        turns=left.turns + right.turns,
        cost_usd=left.cost_usd + right.cost_usd,
        models=_by_model((*left.models, *right.models)),
        unpriced_tokens=left.unpriced_tokens + right.unpriced_tokens,
    )


def _by_model(parts: Iterable[ModelUsage]) -> tuple[ModelUsage, ...]:
    models: dict[str, ModelUsage] = {}
    for part in parts:
        so_far = models.get(part.model, ModelUsage(part.model))
        models[part.model] = ModelUsage(
            model=part.model,
            input_tokens=so_far.input_tokens + part.input_tokens,
            output_tokens=so_far.output_tokens + part.output_tokens,
            cache_read_tokens=so_far.cache_read_tokens + part.cache_read_tokens,
            cache_write_tokens=so_far.cache_write_tokens + part.cache_write_tokens,
            turns=so_far.turns + part.turns,
            cost_usd=so_far.cost_usd + part.cost_usd,
            unpriced_tokens=so_far.unpriced_tokens + part.unpriced_tokens,
        )
    return tuple(sorted(models.values(), key=lambda each: (-each.cost_usd, each.model)))
