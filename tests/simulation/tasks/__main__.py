"""Plays schedules of tasks: `python -m tests.simulation.tasks SEED` one of them, `--from A --count N` many."""

from __future__ import annotations

import sys

from tests.simulation.playing import main
from tests.simulation.tasks.world import play

if __name__ == "__main__":
    sys.exit(main(play, "tests.simulation.tasks", __doc__, lambda history: history.happenings))
