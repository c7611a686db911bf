"""The agent's way to hosts outside: opened for agents that were given some, and every decision told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from agent_sidecar.egress.door import PORT, SOCKET, Decision, OpenProxy
from agent_sidecar.egress.tally import Tally
from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.hook import Run
from agent_sidecar.run.reports import Reports

_SHOWN: Final = 5
"""Refused targets that are named in a warning."""


class ProxyOpener(Protocol):
    """Opens the proxy's socket beside the agent's."""

    async def __call__(self, allow: Sequence[str], on_decision: Callable[[Decision], None], /) -> OpenProxy:
        """Return a proxy that serves."""


def variables() -> Mapping[str, str]:
    """Return the environment by which programs find the proxy. Names are not looked up inside: there is no resolver."""
    address = f"http://127.0.0.1:{PORT}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    local = "127.0.0.1,localhost"
    return {**dict.fromkeys(names, address), "no_proxy": local, "NO_PROXY": local, "NODE_USE_ENV_PROXY": "1"}


class EgressHook:
    """Opens the proxy. Comes after the hook that makes the environment.

    Args:
        open_proxy: Opens it.
        allow: Hosts for tasks that name none.
        reports: Told of decisions.
    """

    name = "egress"

    def __init__(self, open_proxy: ProxyOpener, allow: Sequence[str], reports: Reports) -> None:
        self._open = open_proxy
        self._allow = tuple(allow)
        self._reports = reports
        self._tally = Tally()
        self._news = asyncio.Event()
        self._proxy: OpenProxy | None = None

    async def prepare(self, run: Run) -> None:
        """Open it if there is anything the agent may reach.

        Raises:
            InvalidArgumentError: The task names something that is no host.
        """
        allow = run.assignment.allow or self._allow
        if not allow:
            return
        if run.level is Level.MINIMAL:
            if run.assignment.allow:
                run.warnings.append("the list of hosts is not enforced: the minimal level has the host's network")
            return
        self._tally = Tally()
        self._proxy = await self._open(allow, self._note)
        run.bridges[PORT] = SOCKET
        run.environment |= variables()
        run.allow = tuple(allow)

    async def during(self, run: Run) -> None:
        """Tell of each target when it is first asked for; the proxy serves by itself."""
        while True:
            await self._news.wait()
            self._news.clear()
            if news := self._tally.untold(every=False):
                await self._reports.reached(run.assignment.lease, news)

    async def finish(self, run: Run) -> None:
        """Close it, and tell how often each target was asked for."""
        if self._proxy is None:
            return
        proxy, self._proxy = self._proxy, None
        await proxy.close()
        if rest := self._tally.untold(every=True):
            await self._reports.reached(run.assignment.lease, rest)
        if refused := self._tally.refused():
            named = ", ".join(f"{each.decision.host}:{each.decision.port}" for each in refused[:_SHOWN])
            more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
            run.warnings.append(f"the agent asked for hosts it may not reach: {named}{more}; --allow HOST allows one")

    def _note(self, decision: Decision) -> None:
        self._tally.note(decision)
        self._news.set()
