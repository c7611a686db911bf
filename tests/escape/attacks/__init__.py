"""Ways out of a sandbox, as small programs: table D4 of the isolation research, and what was found beside it."""

from __future__ import annotations

from tests.escape.attacks import files, kernel, network, processes, resources
from tests.escape.attacks.attack import Attack

ATTACKS: tuple[Attack, ...] = (*files.ATTACKS, *processes.ATTACKS, *kernel.ATTACKS, *network.ATTACKS, *resources.ATTACKS)

__all__ = ["ATTACKS", "Attack"]
