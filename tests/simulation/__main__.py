"""Plays schedules: `python -m tests.simulation SEED` one of them, `--from A --count N` many."""

from __future__ import annotations

import sys

from tests.simulation.playing import main
from tests.simulation.world import play

if __name__ == "__main__":
    sys.exit(main(play, "tests.simulation", __doc__, lambda history: (*history.happenings, *history.records)))
