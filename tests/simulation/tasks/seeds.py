"""Which schedules of tasks found a bug once? They are played at every run; each bug has an ordinary test besides.

A seed means the same schedule as long as what is drawn from it does: see `tests/simulation/seeds.py`.
"""

from __future__ import annotations

PAST_BUGS: dict[int, str] = {
    5: "a store that failed while a task was submitted left it waiting for dependencies that had ended",
    276: "a store that failed while several tasks were handed out ended the control plane",
}
