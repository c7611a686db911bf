"""Under what must the supervisor start to own a cgroup where systemd runs?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping


def scope_prefix(
    environment: Mapping[str, str],
    which: Callable[[str], str | None],
    exists: Callable[[str], bool] = os.path.exists,
) -> list[str]:
    """Return the words to put before the supervisor's command line; empty where there is no user manager.

    The scope delegates its cgroup to us (systemd.resource-control(5), Delegate=), so limits need no root.

    Args:
        environment: Of the user who starts; XDG_RUNTIME_DIR tells where the manager listens.
        which: Finds a program by name, e.g. `shutil.which`.
        exists: Tells whether a path exists.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    program = which("systemd-run")
    if not program or not runtime or not exists(f"{runtime}/systemd/private") or not exists(f"{runtime}/bus"):
        return []
    return [program, "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]
