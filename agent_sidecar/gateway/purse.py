"""Who is asked for what a model call may cost, before it is made?"""

from __future__ import annotations

from typing import Protocol

from agent_sidecar.gateway.estimate import Need


class Purse(Protocol):
    """The budget of one run. What calls really used is told by `on_usage`, before they are given back."""

    async def reserve(self, need: Need) -> None:
        """Return once as much is set aside.

        Raises:
            BudgetExhaustedError: There is less left, or what it costs is not known.
            ControlPlaneUnavailableError: Nobody could be asked in time.
        """

    def give_back(self, need: Need) -> None:
        """Note that a call is over."""
