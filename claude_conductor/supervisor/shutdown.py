"""In which order, and with how much patience, does the set end?"""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.supervisor.child import Child
from claude_conductor.supervisor.processes import KILL_WAIT


class Shutdown:
    """Ends wave after wave: TERM, a grace, KILL of the whole group. Sidecars are the first wave, for they stop agents."""

    def __init__(self, waves: Sequence[Sequence[Child]], grace: float, now: float) -> None:
        """Plan the end, and ask the first wave."""
        self._waves = [list(wave) for wave in waves]
        self._grace = grace
        self._killed = False
        self.deadline = now
        for child in (child for wave in self._waves for child in wave if child.pid is None):
            child.terminate()  # so that none of them is started again meanwhile
        self._ask(now)

    @property
    def finished(self) -> bool:
        """Whether every program is gone, or cannot be ended by anybody."""
        return not self._waves

    def hurry(self, now: float) -> None:
        """Have no patience from here on: a second TERM came."""
        self._grace = 0.0
        if not self._killed:
            self.deadline = min(self.deadline, now)

    def advance(self, now: float) -> None:
        """Do what is due: kill who had time enough, turn to the next wave when one is gone."""
        while self._waves:
            living = [child for child in self._waves[0] if child.pid is not None]
            if living and now < self.deadline:
                return
            if living and not self._killed:
                for child in living:
                    child.kill()
                self._killed = True
                self.deadline = now + KILL_WAIT
                return
            self._waves.pop(0)
            self._ask(now)

    def _ask(self, now: float) -> None:
        self._killed = False
        self.deadline = now + self._grace
        if self._waves:
            for child in self._waves[0]:
                child.terminate()
