"""The budget of one run: the control plane is asked before a model call, and told afterwards what that used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from agent_sidecar.gateway.estimate import Need
from agent_sidecar.gateway.price import Price, Prices, price_of
from agent_sidecar.run.task import Allowance, Amount, Lease, Usage
from claude_conductor.errors import BudgetExhaustedError

PATIENCE: Final = 120.0
"""Seconds in which the control plane has to answer; agents' clients give up after 600."""
_MILLION: Final = 1e6


class Claims(Protocol):
    """The way to the control plane."""

    async def claim(self, lease: Lease, usage: Usage, amount: Amount, seconds: float) -> None:
        """Ask for an amount, in place of what was asked for before.

        Raises:
            BudgetExhaustedError: There is less left.
            ControlPlaneUnavailableError: There was no answer in time.
        """

    async def claimed(self, lease: Lease, usage: Usage, amount: Amount) -> None:
        """Tell of an amount that is no larger than the last one; it may be dropped."""


class RunPurse:
    """The budget of one run.

    Args:
        lease: Of the attempt.
        allowance: What the attempt may use at most.
        prices: Of models.
        usage: Tells what was used by now.
        claims: Who is asked.
        refused: Told of the first refusal, in words.
    """

    def __init__(
        self,
        lease: Lease,
        allowance: Allowance,
        prices: Prices,
        usage: Callable[[], Usage],
        claims: Claims,
        refused: Callable[[str], None],
    ) -> None:
        self._lease = lease
        self._allowance = allowance
        self._prices = prices
        self._usage = usage
        self._claims = claims
        self._refused = refused
        self._under_way: list[Need] = []
        self._turn = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()

    async def reserve(self, need: Need) -> None:
        """See Purse. One asks after the other, so that each knows what the others were given."""
        try:
            self._price(need.model)
            async with self._turn:
                self._under_way.append(need)
                try:
                    amount = self._amount()
                    self._check(amount)
                    await self._claims.claim(self._lease, self._usage(), amount, PATIENCE)
                except BaseException:
                    self._under_way.remove(need)
                    raise
        except BudgetExhaustedError as error:
            self._refused(f"{error.message} {error.next_step[:1].upper()}{error.next_step[1:]}.")
            raise

    def give_back(self, need: Need) -> None:
        """See Purse."""
        self._under_way.remove(need)
        telling = asyncio.get_running_loop().create_task(
            self._claims.claimed(self._lease, self._usage(), self._amount()), name=f"settle {self._lease.task_id}"
        )
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def _amount(self) -> Amount:
        """Return what was used, and what may be used by the calls under way."""
        used = amount_of(self._usage())
        return Amount(
            turns=used.turns + len(self._under_way),
            tokens=used.tokens + sum(need.tokens for need in self._under_way),
            usd=used.usd + sum(self._worth(need) for need in self._under_way),
        )

    def _check(self, amount: Amount) -> None:
        """Refuse what can never be granted, without a question."""
        most = self._allowance
        parts = (
            (most.turns, amount.turns, f"{most.turns} turns", "--budget-turns"),
            (most.tokens, amount.tokens, f"{most.tokens} tokens", "--budget-tokens"),
            (most.usd, amount.usd, f"${most.usd or 0:.4g}", "--budget-usd"),
        )
        for limit, wanted, words, flag in parts:
            if limit is not None and wanted > limit + 1e-9:
                raise BudgetExhaustedError(
                    f"The next model call may need more than is left of the task's budget of {words}.",
                    next_step=f"raise it with {flag}",
                )

    def _price(self, model: str) -> Price | None:
        if self._allowance.usd is None:
            return None
        price = price_of(self._prices, model)
        if price is None:
            raise BudgetExhaustedError(
                f"The task has a budget in US dollars, and no price of the model {model} is known.",
                next_step="add it to config/prices.yaml and start Conductor again, or limit --budget-tokens instead",
            )
        return price

    def _worth(self, need: Need) -> float:
        price = self._price(need.model)
        if price is None:
            return 0.0
        reading = max(price.input, price.cache_write, price.cache_read)
        return (need.input_tokens * reading + need.output_tokens * price.output) / _MILLION


def amount_of(usage: Usage) -> Amount:
    """Return what counts of a use, as the control plane counts it."""
    return Amount(
        turns=sum(model.turns for model in usage.models) or usage.turns,
        tokens=usage.input_tokens + usage.output_tokens + usage.cache_write_tokens,
        usd=usage.cost_usd,
    )


def over(allowance: Allowance, usage: Usage) -> str:
    """Return what an agent has used too much of that tells so itself, in words; empty where nothing is exceeded."""
    used = amount_of(usage)
    if allowance.turns is not None and used.turns > allowance.turns:
        return f"The agent took more turns than the {allowance.turns} of its budget; raise it with --budget-turns."
    if allowance.tokens is not None and used.tokens > allowance.tokens:
        return f"The agent used more tokens than the {allowance.tokens} of its budget; raise it with --budget-tokens."
    if allowance.usd is not None and used.usd > allowance.usd + 1e-9:
        return f"The agent cost more than the ${allowance.usd:.4g} of its budget; raise it with --budget-usd."
    return ""
