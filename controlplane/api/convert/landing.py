"""How does the word travel that a patch has landed, or has not?"""

from __future__ import annotations

import re
from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2 as pb
from controlplane.api.convert.values import timestamp
from controlplane.domain.landing import Landing, LandingState

STATES: Final = {state: pb.LandingState.Value(f"LANDING_STATE_{state.name}") for state in LandingState}
_STATES_BACK: Final[dict[int, LandingState]] = {number: state for state, number in STATES.items()}
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = 255
_REASON = 4 << 10
_OUTPUT = 64 << 10


def landing_to_proto(landing: Landing | None) -> pb.Landing | None:
    """Return the landing as clients see it."""
    if landing is None:
        return None
    return pb.Landing(
        state=STATES[landing.state],
        branch=landing.branch,
        commit=landing.commit,
        reason=landing.reason,
        output=landing.output,
        check_task_id=landing.check_task_id,
        time=timestamp(landing.time),
    )


def landing_from_proto(landing: pb.Landing) -> Landing:
    """Return what became of a patch; its time is not the caller's to say.

    Raises:
        InvalidArgumentError: It has no state, no branch or no commit; the details name the field.
    """
    if landing.state not in _STATES_BACK:
        raise InvalidArgumentError("A landing has a state.", field="landing.state", value=landing.state)
    if not 0 < len(landing.branch) <= _BRANCH:
        raise InvalidArgumentError(f"A branch has a name of at most {_BRANCH} characters.", field="landing.branch")
    if not _COMMIT.fullmatch(landing.commit):
        raise InvalidArgumentError("A commit is 40 or 64 hexadecimal digits.", field="landing.commit")
    return Landing(
        _STATES_BACK[landing.state],
        landing.branch,
        landing.commit,
        landing.reason[:_REASON],
        landing.output[:_OUTPUT],
        landing.check_task_id[:_BRANCH],
    )
