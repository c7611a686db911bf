"""What did the models of one run use and cost, as the gateway counts it?"""

from __future__ import annotations

from collections.abc import Mapping

from agent_sidecar.drivers.driver import TokenUse
from agent_sidecar.gateway.price import Prices, cost
from agent_sidecar.gateway.usage import Usage as Answered
from agent_sidecar.run.task import ModelUsage

Spent = Mapping[str, ModelUsage]
"""By name of the model."""


def spent_more(so_far: Spent, answer: Answered, prices: Prices) -> Spent:
    """Return what was spent after one more answer of the provider; each answer counts as a turn."""
    before = so_far.get(answer.model, ModelUsage(answer.model))
    price = cost(prices, answer)
    after = ModelUsage(
        model=answer.model,
        input_tokens=before.input_tokens + answer.input_tokens,
        output_tokens=before.output_tokens + answer.output_tokens,
        cache_read_tokens=before.cache_read_tokens + answer.cache_read_tokens,
        cache_write_tokens=before.cache_write_tokens + answer.cache_write_tokens,
        turns=before.turns + 1,
        cost_usd=before.cost_usd + (price or 0.0),
        unpriced_tokens=before.unpriced_tokens + (answer.tokens if price is None else 0),
    )
    return {**so_far, answer.model: after}


def as_told(spent: Spent) -> tuple[ModelUsage, ...]:
    """Return it in the order in which it is told: the most expensive first."""
    return tuple(sorted(spent.values(), key=lambda each: (-each.cost_usd, each.model)))


def tokens(spent: Spent) -> TokenUse:
    """Return the sum over the models."""
    return TokenUse(
        input_tokens=sum(each.input_tokens for each in spent.values()),
        output_tokens=sum(each.output_tokens for each in spent.values()),
        cache_read_tokens=sum(each.cache_read_tokens for each in spent.values()),
        cache_write_tokens=sum(each.cache_write_tokens for each in spent.values()),
        turns=sum(each.turns for each in spent.values()),
        cost_usd=sum(each.cost_usd for each in spent.values()),
    )


def unpriced(use: TokenUse) -> int:
    """Return how many tokens an agent that counts for itself tells no cost of."""
    if use.cost_usd:
        return 0
    return use.input_tokens + use.output_tokens + use.cache_read_tokens + use.cache_write_tokens
