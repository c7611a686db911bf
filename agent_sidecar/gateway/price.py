"""What does an answer of a model cost?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent_sidecar.gateway.usage import Usage

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model: US dollars for a million tokens of each sort."""

    input: float
    output: float
    cache_read: float
    cache_write: float


Prices = Mapping[str, Price]
"""By name of the model; one that ends in `*` holds for every model that begins like it."""


def cost(prices: Prices, usage: Usage) -> float | None:
    """Return what an answer costs in US dollars; None where no price of its model is known."""
    price = price_of(prices, usage.model)
    if price is None:
        return None
    return (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_tokens * price.cache_write
    ) / _MILLION


def price_of(prices: Prices, model: str) -> Price | None:
    """Return the price of a model: that of its own name, else of the longest beginning that fits."""
    if model in prices:
        return prices[model]
    fits = [name for name in prices if name.endswith("*") and model.startswith(name[:-1])]
    return prices[max(fits, key=len)] if model and fits else None
