"""Which schedules found a bug once? They are played at every run; `python -m tests.simulation SEED` shows one.

A seed means the same schedule as long as what is drawn from it does: whoever changes the simulation looks for seeds again, by
taking a fix back and playing until one fails. Each bug has an ordinary test besides, which does not depend on that.
"""

from __future__ import annotations

PAST_BUGS: dict[int, str] = {
    0: "credit drifted by the bytes around a delivery",
    1: "what was delivered before the first credit was free",
    4: "a call that a dead agent process left behind took a message away",
    8: "credit grew with what was sent again after a reconnect",
    30: "an ephemeral message was sent again by the next session",
    40: "what a lost call took did not come to its repeat",
    130: "the credit of a frame that the disk refused was gone",
    688: "a message that expired beside its agent was shown",
    833: "a repeat was refused as expired although it was stored",
}
