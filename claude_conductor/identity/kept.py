"""What does a machine that joined keep of its identity? One file, so that key, certificate and token always fit together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from claude_conductor.errors import CertificateError
from claude_conductor.identity.files import read_private, write_private


@dataclass(frozen=True, slots=True)
class Kept:
    """An agent's identity on its own machine. Certificates and keys are PEM, times seconds since the epoch."""

    address: str
    """Of the control plane's door for sidecars, `HOST:PORT`."""
    tenant_id: str
    agent_id: str
    level: str
    """Isolation level of its tasks."""
    chain: str
    trust: str
    key: str = field(repr=False)
    token: str = field(repr=False)
    token_begin: float
    token_end: float


def write(path: Path, kept: Kept) -> None:
    """Keep it in the place of what was there, in one step.

    Raises:
        HomeUnusableError: It cannot be written.
    """
    write_private(path, json.dumps(asdict(kept), indent=1).encode())


def read(path: Path) -> Kept:
    """Return what is kept.

    Raises:
        CertificateError: There is nothing, others can read it, or it is damaged.
    """
    try:
        return Kept(**json.loads(read_private(path)))
    except (ValueError, TypeError) as cause:
        raise CertificateError("The identity of this agent is damaged.", next_step="join again", path=path) from cause
