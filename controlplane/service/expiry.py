"""What happens when time is up: for leases, delays and messages?"""

from __future__ import annotations

import asyncio
import logging

from claude_conductor.clock import Clock
from claude_conductor.errors import StoreUnavailableError
from controlplane.domain.task_machine import Released
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.leases import Leases
from controlplane.service.pulse import wait
from controlplane.service.relay import Relay
from controlplane.service.sessions import Sessions
from controlplane.service.tasks import Tasks
from controlplane.service.timetable import Timetable

_log = logging.getLogger(__name__)
_PAGE = 256
_LONGEST = 60.0
"""A wall clock that jumped is noticed after this long."""
_STORE_PAUSE = 0.5
_OVERSLEPT = 0.5
"""Waking up this much too late says that this process stood still: signs of life may wait unread."""


class Expiry:
    """The one timer: sleeps until something is due."""

    def __init__(
        self, store: TaskStore, tasks: Tasks, sessions: Sessions, leases: Leases, relay: Relay, timetable: Timetable, clock: Clock
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._sessions = sessions
        self._leases = leases
        self._relay = relay
        self._timetable = timetable
        self._clock = clock

    async def run(self) -> None:
        """Watch the time for ever."""
        while True:
            self._timetable.changed.clear()
            left = self._timetable.seconds_left(self._leases.next_deadline(), _LONGEST)
            planned = self._clock.monotonic() + left
            await wait(self._timetable.changed, left)
            if (late := self._clock.monotonic() - planned) > _OVERSLEPT:
                _log.warning("the control plane stood still; leases start anew", extra={"seconds": round(late, 1)})
                self._leases.renew_all()
            try:
                await self.round()
            except StoreUnavailableError as error:
                _log.warning("expiry waits for the store", extra={"cause": str(error)})
                self._timetable.expect_task(self._clock.now() + _STORE_PAUSE)
                self._timetable.expect_message(self._clock.now() + _STORE_PAUSE)
                await asyncio.sleep(_STORE_PAUSE)

    async def round(self) -> None:
        """Do what is due now."""
        for held in self._leases.expired():
            await self._sessions.lose(held, f"gave no sign of life for {self._leases.duration:g} s")
        for task_id in self._timetable.over():
            self._tasks.out_of_time(task_id)
        if self._timetable.tasks_due():
            await self._release()
        if self._timetable.messages_due():
            await self._relay.expire()

    async def _release(self) -> None:
        while due := await self._store.due(self._clock.now(), _PAGE):
            for task in due:
                await self._tasks.try_change(task, Released(self._clock.now()))
