"""Which tokens do the sidecars and the operator have in this supervisor's life?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from claude_conductor.supervisor.tokens import Tokens

TOKEN_BYTES = 32
"""256 bit, design/06."""


def mint(agent_ids: Iterable[str], operator: str | None, token: Callable[[int], str]) -> Tokens:
    """Mint a token for each sidecar, and one for the operator where there is none yet.

    Args:
        agent_ids: One sidecar each.
        operator: The operator's token if it exists already.
        token: Returns a token of so many random bytes, e.g. `secrets.token_urlsafe`.
    """
    sidecars = {agent_id: token(TOKEN_BYTES) for agent_id in agent_ids}
    operator = operator or token(TOKEN_BYTES)
    return Tokens(
        sidecars=sidecars,
        sidecar_digests={agent_id: digest(each) for agent_id, each in sidecars.items()},
        operator=operator,
        operator_digest=digest(operator),
    )


def digest(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()
